"""What must hold for the whole test process, before any module of Ray is imported."""

import os
import secrets

# Ray reads its authentication once a process, so every Ray that this process starts or calls shares one token.
os.environ.setdefault("RAY_AUTH_MODE", "token")
os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
