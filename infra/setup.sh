#!/bin/sh
# Make the virtual environment named by $1 and install the project into it at the locked versions, with one progress line.
set -eu
venv=$1
python=${PYTHON:-python3}
if ! "$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null; then
  echo "setup: $python is not Python 3.11-3.13; install one, or name it: make PYTHON=python3.11 ..." >&2
  exit 1
fi
echo "Setting up in $venv: about 2 GB, two minutes with a good connection. Log: $venv/setup.log"
if ! "$python" -m venv "$venv"; then
  echo "setup: $python cannot make virtual environments; on Debian: apt-get install python3-venv" >&2
  exit 1
fi
total=$(grep -c == requirements.lock)
# The last line is not a progress line but pip's own summary or error, so keep the log whole and judge by a marker file.
rm -f "$venv/.installed"
{
  # shellcheck disable=SC2086
  "$venv/bin/python" -m pip install --disable-pip-version-check --progress-bar off $PIP_ARGS \
    --constraint requirements.lock --editable '.[platform,ui,dev]' 2>&1 && touch "$venv/.installed"
} | tee "$venv/setup.log" | awk -v total="$total" '
  /^Collecting /               { n++; printf "\r  %3d of %d packages found: %-40.40s", n, total, $2; fflush() }
  /^Installing collected/      { printf "\r  installing %d packages ...%-40s", n, ""; fflush() }
  /^Successfully installed/    { printf "\r  installed.%-60s\n", "" }
  /^ERROR|^error/              { printf "\n  %s\n", $0 }'
if [ ! -e "$venv/.installed" ]; then
  echo "setup: the installation failed; the end of $venv/setup.log:" >&2
  tail -n 15 "$venv/setup.log" >&2
  exit 1
fi
touch "$venv/.ready"
