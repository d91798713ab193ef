#!/bin/sh
# Check the types of the console's scripts, which their comments tell. Needs npm, for the compiler alone.
set -eu
compiler="typescript@7.0.2"
if ! command -v npm >/dev/null 2>&1; then
  echo "check_js: npm is not here, so the types of the console's scripts are not checked."
  exit 0
fi
if ! npm exec --yes --loglevel=error --package="$compiler" -- tsc --version >/dev/null 2>&1; then
  echo "check_js: npm cannot fetch $compiler, so the types of the console's scripts are not checked."
  exit 0
fi
exec npm exec --yes --loglevel=error --package="$compiler" -- tsc --project jsconfig.json
