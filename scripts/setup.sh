#!/bin/sh
# Make the environment in $1 from requirements.lock. As root on Debian or Ubuntu, first install the system packages that
# are missing; otherwise say which ones are missing and what is then left out.
set -eu
venv=$1
python=${PYTHON:-python3}

wanted=""
command -v bwrap >/dev/null 2>&1 || wanted="$wanted bubblewrap"
command -v initdb >/dev/null 2>&1 || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || wanted="$wanted postgresql"
command -v cc >/dev/null 2>&1 || wanted="$wanted gcc libc6-dev"
command -v chromium >/dev/null 2>&1 || command -v google-chrome >/dev/null 2>&1 || wanted="$wanted chromium"
PATH="$PATH:/usr/sbin:/sbin"
slurm="slurm-wlm slurmctld slurmd slurmdbd slurmrestd slurm-client slurm-wlm-basic-plugins slurm-wlm-jwt-plugin munge"
command -v slurmctld >/dev/null 2>&1 && command -v slurmrestd >/dev/null 2>&1 || wanted="$wanted $slurm mariadb-server"
command -v sshd >/dev/null 2>&1 || wanted="$wanted openssh-server"
"$python" -c 'import ensurepip' 2>/dev/null || wanted="$wanted python3-venv"
if [ -n "$wanted" ]; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "setup: installing$wanted"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -q >/dev/null
    # shellcheck disable=SC2086
    apt-get install -q -y --no-install-recommends $wanted >/dev/null
  else
    echo "setup: missing system packages:$wanted"
    echo "setup: not root, so they are not installed; without bubblewrap jobs run unsandboxed and its tests are skipped,"
    echo "setup: without postgresql the store's tests run on SQLite only, without gcc the pretended NVML is not built,"
    echo "setup: without chromium no test looks at the console in a browser, without Slurm, munge and openssh-server none"
    echo "setup: runs jobs on a Slurm cluster."
  fi
fi

[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
"$venv/bin/python" -m pip install -q --disable-pip-version-check --require-hashes -r requirements.lock
"$venv/bin/python" -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
touch "$venv/.ready"
