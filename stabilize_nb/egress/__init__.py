"""Egress: where requests may go, decided by pure rules and carried out at the socket (reliability.md C3)."""
