"""Teaching a model: tasks, schedule, the loop, exact resume. Knows no Ray: a job runner drives it from outside."""
