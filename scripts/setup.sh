#!/bin/sh
# Make the environment in $1 from requirements.lock. As root on Debian or Ubuntu, first install the system packages that
# are missing; otherwise say which ones are missing and what is then left out.
set -eu
venv=$1
python=${PYTHON:-python3}

needed=""
command -v bwrap >/dev/null 2>&1 || needed="$needed bubblewrap"
command -v initdb >/dev/null 2>&1 || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || needed="$needed postgresql"
command -v cc >/dev/null 2>&1 || needed="$needed gcc libc6-dev"
"$python" -c 'import ensurepip' 2>/dev/null || needed="$needed python3-venv"
# What only tests look at, each for itself: a machine may not have it.
PATH="$PATH:/usr/sbin:/sbin"
browser="" slurm="" ssh=""
command -v chromium >/dev/null 2>&1 || command -v google-chrome >/dev/null 2>&1 || browser="chromium"
command -v slurmctld >/dev/null 2>&1 && command -v slurmrestd >/dev/null 2>&1 ||
  slurm="slurm-wlm slurmctld slurmd slurmdbd slurmrestd slurm-client slurm-wlm-basic-plugins slurm-wlm-jwt-plugin munge mariadb-server"
command -v sshd >/dev/null 2>&1 || ssh="openssh-server"
ls /usr/lib/*/faketime/libfaketime.so.1 >/dev/null 2>&1 || ssh="$ssh libfaketime" # a node whose clock is wrong

install() {
  echo "setup: installing $*"
  apt-get install -q -y --no-install-recommends "$@" >/dev/null
}

# shellcheck disable=SC2086
if [ -n "$needed$browser$slurm$ssh" ]; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    export DEBIAN_FRONTEND=noninteractive
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then # what is installed for tests is not to be started on this machine
      trap 'rm -f "$policy"' EXIT
      printf '#!/bin/sh\nexit 101\n' >"$policy"
      chmod 755 "$policy"
    fi
    apt-get update -q >/dev/null
    [ -z "$needed" ] || install $needed
    for group in "$browser" "$slurm" "$ssh"; do
      [ -z "$group" ] || install $group || echo "setup: that failed; tests that need it are skipped."
    done
  else
    echo "setup: missing system packages: $needed $browser $slurm $ssh"
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
