"""Train models: tasks, the loop, schedules and exact resumption. A job runner drives it from outside."""
