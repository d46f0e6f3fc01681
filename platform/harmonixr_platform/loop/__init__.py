"""The loop closed once on one machine, with a simulated listener whose hidden taste is known."""
