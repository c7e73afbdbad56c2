# shellcheck shell=bash
# What the launchers in shell have in common; sourced by them.

dry_run=false

# Ends with the one line for a bad flag: the flag, what it got, what was expected, the mend.
refuse() {
  # shellcheck disable=SC2016
  printf 'error: `%s`: got %s, expected %s; %s.\n' "$@" >&2
  exit 1
}

# The comment that opens a launcher is its help.
show_help() {
  sed -n '2,/^[^#]*$/s/^# \{0,1\}//p' "$1"
}

# Runs a command, or in a dry run prints it so that it can be pasted.
run() {
  if [[ $dry_run == true ]]; then
    quoted "$@"
  else
    "$@"
  fi
}

quoted() {
  local argument line=''
  for argument in "$@"; do
    if [[ ! $argument =~ ^[A-Za-z0-9_./:=,@%+-]+$ ]]; then
      argument="'${argument//\'/\'\\\'\'}'"
    fi
    line+=${line:+ }$argument
  done
  printf '%s\n' "$line"
}

# The value of a flag --name=value that is a whole number of at least $2.
whole_number() {
  local flag=${1%%=*} value=${1#*=}
  if [[ ! $value =~ ^[0-9]{1,9}$ ]] || ((10#$value < $2)); then
    refuse "$flag" "'$value'" "a whole number of at least $2" "change it"
  fi
  printf '%d\n' "$((10#$value))"
}

# The train script's own flags; without them nothing is started.
require_train_flags() {
  local flag argument
  for flag in --config --workdir; do
    for argument in "$@"; do
      if [[ $argument == "$flag"=* || $argument == "$flag" ]]; then
        continue 2
      fi
    done
    refuse "$flag" nothing "a flag of launch/train.py" "add $flag=…"
  done
}

# PYTHON where it is set, else the repository's own environment, else the system's.
find_python() {
  if [[ -n ${PYTHON:-} ]]; then
    printf '%s\n' "$PYTHON"
  elif [[ -x $1/.venv/bin/python ]]; then
    printf '%s\n' "$1/.venv/bin/python"
  else
    printf 'python3\n'
  fi
}
