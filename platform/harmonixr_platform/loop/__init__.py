"""Run the whole feedback loop once on one machine, with a simulated listener whose utility is known."""
