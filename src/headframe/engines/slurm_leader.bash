# The leader of an attempt on a Slurm cluster: runs in the batch step, and once more on each node of a gang.
# It needs bash and the shared file system alone. Sourced by the batch script that the engine submits, which sets
#   HF_FOLDER  the attempt's folder          HF_SEAL  one half of the job's secrets (hex), or nothing
#   HF_EAR     "host port word allocation": where to say that there is news        HF_WATCH  seconds between looks
#   HF_LOOKS   how often to look for another attempt when this one has ended
# In HF_FOLDER: plan (a line for each node: its name or *, then its ranks), orders (lines for us), taken (ours: whose
# it is), and for each rank task/ (what to run) and run/ (begun, status, stdout, stderr: made beforehand, as a shared
# file system may deny for a while that a new file is there).
set -u
LC_ALL=C
hf_self=${HF_SELF:-}
exec 7<> <(:)  # what wakes us: ends of tasks, words of other nodes
trap 'hf_rung=1' URG
trap 'hf_termed=1' TERM
trap '' USR1 USR2 HUP INT
hf_rung=0 hf_termed=0 hf_orders=0 hf_failed=0 hf_grace=0 hf_stop='' hf_deadline=0 hf_gang=0
declare -A hf_live=() hf_leader=() hf_over=() hf_sent=() hf_signalled=() hf_spent=() hf_peak=()

hf_open_ear() {  # HOST PORT WORD ALLOCATION; once, as a name may take a while to be found
  hf_word=${3:-} hf_allocation=${4:-}
  if [[ -n ${2:-} && -z $hf_self ]]; then { exec 6>"/dev/udp/$1/$2"; } 2>/dev/null || hf_word=''; fi
}

hf_hint() {  # news for the server: it looks by itself, too, only later
  if [[ -n $hf_word ]]; then { printf '%s %s' "$hf_word" "$hf_allocation" >&6; } 2>/dev/null; fi
  return 0
}

hf_now() {  # microseconds
  hf_now=${EPOCHREALTIME:-}
  hf_now=${hf_now/[.,]/}
  if [[ -z $hf_now ]]; then hf_now=$(date +%s%6N); fi  # bash before 5.0
}

hf_unseal() {  # the half on disk and the half that came with the batch script make the secrets
  local sealed half=$HF_SEAL text='' byte i
  read -r sealed <"$HF_FOLDER/sealed.${HF_SEAL:0:16}" || return 1
  half=${half:16}
  for ((i = 0; i < ${#sealed}; i += 2)); do
    printf -v byte '\\x%02x' $((0x${sealed:i:2} ^ 0x${half:i:2}))
    text+=$byte
  done
  printf "$text"
}

hf_values() {  # the environment of a rank as shell text, into hf_values; no other program is run for it
  local rank=$1 name text=''
  IFS= read -r -d '' hf_values <"$HF_FOLDER/$rank/task/environment"
  if [[ -n ${HF_SEAL:-} ]]; then
    text=$(hf_unseal) || return 1
    hf_values+=$text$'\n'
    text=''
    IFS= read -r -d '' text <"$HF_FOLDER/$rank/task/placed"
    hf_values+=$text
  fi
  if [[ -s $HF_FOLDER/found ]]; then
    IFS= read -r -d '' text <"$HF_FOLDER/found"
    hf_values+=$text
  fi
  for name in CUDA_VISIBLE_DEVICES HIP_VISIBLE_DEVICES ROCR_VISIBLE_DEVICES; do
    hf_values+="export $name='$2'"$'\n'
  done
  return 0
}

hf_start() {  # a rank: in a subshell, which notes how it ended and tells us
  local rank=$1 devices=$2 run=$HF_FOLDER/$1/run task=$HF_FOLDER/$1/task
  local sound=1
  hf_values=''
  if [[ -e $task/environment ]]; then hf_values "$rank" "$devices" || sound=0; fi
  printf 'begun\n' >"$run/begun"  # from here on the half on disk may be removed
  (
    trap - URG TERM USR1 USR2 HUP INT
    hf_binds=()
    for file in /dev/nvidia[0-9]*; do [[ -c $file ]] && hf_binds+=(--dev-bind "$file" "$file"); done
    (
      ((sound)) || exit 125
      if [[ -n $hf_values ]]; then exec 9< <(printf '%s' "$hf_values"); fi
      exec 4>>"$run/status" </dev/null >>"$run/stdout" 2>>"$run/stderr"
      [[ -e $task/arguments ]] && exec 3<"$task/arguments"
      exec 6>&- 7>&-
      unset hf_values HF_SEAL HF_EAR
      . "$task/command"
    )
    code=$?
    printf '{ "leader-code": %d }\n' "$code" >>"$run/status"
    printf 'ended %d\n' "$rank" >&7
  ) &
  hf_live[$rank]=1 hf_leader[$rank]=$!
}

hf_weigh() {  # what all processes of a rank have used until now: hundredths of seconds of a CPU, and KiB at their peaks
  local rank pid file key value rest sum spent
  local -a todo more
  for rank in "${!hf_live[@]}"; do
    sum=0 spent=0 todo=("${hf_leader[$rank]}")
    while ((${#todo[@]})); do
      pid=${todo[0]} todo=("${todo[@]:1}")
      for file in /proc/"$pid"/task/*/children; do
        more=()
        read -r -a more <"$file"
        todo+=("${more[@]}")
      done 2>/dev/null
      if [[ $pid != "${hf_leader[$rank]}" ]]; then
        while read -r key value rest; do
          if [[ $key = VmHWM: ]]; then sum=$((sum + value)); break; fi
        done 2>/dev/null <"/proc/$pid/status"
        if read -r rest 2>/dev/null <"/proc/$pid/stat"; then
          more=(${rest##*) })
          spent=$((spent + more[11] + more[12] + more[13] + more[14]))  # its own, and of what it has waited for
        fi
      fi
    done
    if ((sum > ${hf_peak[$rank]:-0})); then hf_peak[$rank]=$sum; fi
    if ((spent > ${hf_spent[$rank]:-0})); then hf_spent[$rank]=$spent; fi
  done
}

hf_find_first() {  # the first process of a rank's sandbox, into hf_first; with it all others of it end
  local line
  hf_first='' hf_boxed=''
  while read -r line; do
    [[ $line =~ \"child-pid\":\ ([0-9]+) ]] && hf_first=${BASH_REMATCH[1]} hf_boxed=1
  done <"$HF_FOLDER/$1/run/status"
  if [[ ! -e /proc/${hf_first:-none} || /proc/$hf_first/ns/pid -ef /proc/$$/ns/pid ]]; then hf_first=''; fi
}

hf_inside() {  # the processes of a rank, into hf_pids
  local rank=$1 run=$HF_FOLDER/$1/run line pid self
  hf_pids=()
  hf_find_first "$1"
  if [[ -n $hf_first ]]; then
    for pid in /proc/[0-9]*; do
      pid=${pid#/proc/}
      [[ $pid != "$hf_first" && /proc/$pid/ns/pid -ef /proc/$hf_first/ns/pid ]] && hf_pids+=("$pid")
    done
  elif [[ ! -e $HF_FOLDER/$rank/task/arguments ]]; then
    read -r self <"$run/session" || self=0
    for pid in /proc/[0-9]*; do
      read -r line 2>/dev/null <"$pid/stat" || continue
      line=(${line##*) })
      [[ ${line[3]} = "$self" ]] && hf_pids+=("${pid#/proc/}")
    done 2>/dev/null
  fi
}

hf_catches() {  # whether a process has a handler of its own for a signal, told by number
  local key value=0
  while read -r key value; do [[ $key = SigCgt: ]] && break; done 2>/dev/null <"/proc/$1/status" || return 1
  (((16#${value:-0} >> ($2 - 1)) & 1))
}

hf_signal() {  # all processes of a rank, each once; one that is just being started has none yet that could take it
  # The oldest first: a shell is to have heard before what it waits for ends by the same signal.
  local pid line
  hf_inside "$1"
  for pid in $(
    for pid in "${hf_pids[@]}"; do
      read -r line 2>/dev/null <"/proc/$pid/stat" || continue
      line=(${line##*) })
      printf '%s %s\n' "${line[19]}" "$pid"
    done | sort -n | while read -r _ pid; do printf '%s ' "$pid"; done
  ); do
    hf_sent[$1]=1
    if [[ -z ${hf_signalled[$pid]:-} ]]; then
      hf_signalled[$pid]=1
      kill -s "$2" "$pid" 2>/dev/null
    fi
  done
}

hf_warn() {  # only processes that listen: a warning must not end a shell that does not know it
  local pid key value number parent
  number=$(kill -l "$2") || return 0
  hf_inside "$1"
  for pid in "${hf_pids[@]}"; do
    hf_catches "$pid" "$number" || continue
    # A fork that is not yet a program of its own has its parent's handlers, and the parent hears already.
    parent=0
    while read -r key value; do [[ $key = PPid: ]] && parent=$value && break; done 2>/dev/null <"/proc/$pid/status"
    cmp -s "/proc/$pid/cmdline" "/proc/$parent/cmdline" && continue
    hf_catches "$pid" "$number" || continue  # it has become a program of its own meanwhile, with no handler
    kill -s "$2" "$pid" 2>/dev/null
  done
}

hf_kill() {  # a rank with all that it started; the leader stays, to write down how it ended
  hf_find_first "$1"
  if [[ -n $hf_first ]]; then kill -s KILL "$hf_first" 2>/dev/null; fi
  if [[ -n $hf_boxed ]]; then return 0; fi
  hf_inside "$1"
  local round
  for round in 1 2 3 4 5 6 7 8 9 10; do
    if ((${#hf_pids[@]})); then kill -s KILL "${hf_pids[@]}" 2>/dev/null; else break; fi
    hf_inside "$1"
  done
  if [[ -e $HF_FOLDER/$1/task/arguments ]]; then pkill -KILL -P "${hf_leader[$1]}" 2>/dev/null; fi
  return 0
}

hf_begin_stop() {  # signal now, kill after so many microseconds; a second stop may only shorten it
  local rank deadline
  hf_now
  deadline=$((hf_now + $2))
  if [[ -z $hf_stop ]]; then
    hf_stop=$1 hf_deadline=$deadline
    if ((hf_gang == 0)); then
      for rank in "${!hf_live[@]}"; do hf_signal "$rank" "$1"; done
    fi
  elif ((deadline < hf_deadline)); then
    hf_deadline=$deadline
  fi
}

hf_obey() {  # one order: stop SIGNAL MICROSECONDS | warn SIGNAL
  local rank
  case $1 in
    stop) hf_begin_stop "$2" "$3" ;;
    warn)
      if ((hf_gang == 0)); then
        for rank in "${!hf_live[@]}"; do hf_warn "$rank" "$2"; done
      fi ;;
  esac
  if ((hf_gang)); then printf '%s %s %s\n' "$1" "$2" "${3:-}" >&8; fi
}

hf_read_orders() {  # those that came since the last look
  local number=0 words
  while read -r -a words; do
    number=$((number + 1))
    if ((number > hf_orders)); then hf_obey "${words[@]}"; fi
  done <"$HF_FOLDER/orders"
  ((number > hf_orders)) && hf_orders=$number
  return 0
}

hf_end() {  # a rank's shell is gone: what it left gets the rest of the grace, then it is over
  local rank=$1
  if [[ -n $hf_stop ]]; then
    hf_now
    if ((hf_now < hf_deadline)); then
      hf_signal "$rank" "$hf_stop"
      if ((${#hf_pids[@]})); then hf_over[$rank]=1; return 0; fi
    fi
  fi
  hf_kill "$rank"
  unset "hf_over[$rank]" "hf_live[$rank]"
  local code=0 line
  while read -r line; do
    [[ $line =~ \"(exit|leader)-code\":\ ([0-9]+) ]] && ((code == 0)) && code=${BASH_REMATCH[2]}
  done <"$HF_FOLDER/$rank/run/status"
  printf '{ "over": 1, "cpu-ticks": %d, "peak-kib": %d }\n' "${hf_spent[$rank]:-0}" "${hf_peak[$rank]:-0}" \
    >>"$HF_FOLDER/$rank/run/status"
  unset "hf_spent[$rank]" "hf_peak[$rank]"
  if [[ -n $hf_self ]]; then printf 'over %d %d\n' "$rank" "$code"; else hf_hint; fi
  hf_ended "$rank" "$code"
}

hf_ended() {  # the first failure ends the gang
  if (($2 != 0)) && [[ -z $hf_stop && -z $hf_self ]]; then
    printf 'failed %d %d\n' "$1" "$2" >>"$HF_FOLDER/taken"
    if ((${#hf_live[@]})); then hf_obey stop TERM 10000000; fi
  fi
}

hf_loop() {  # until nothing of ours lives
  local words part line='' wait rank looked=$SECONDS
  while ((${#hf_live[@]})); do
    wait=$HF_WATCH
    if [[ -n $hf_stop ]]; then wait=0.05; fi
    words=() part=''
    set -o posix  # so that a signal interrupts `read`, in the midst of a line as it may be: the rest comes next time
    if read -r -t "$wait" -u 7 part; then read -r -a words <<<"$line$part"; line=''; else line+=$part; fi
    set +o posix
    if ((hf_termed)); then hf_termed=0; hf_obey stop TERM 2000000; fi
    case ${words[0]:-} in
      ended) if [[ -n ${hf_live[${words[1]}]:-} ]]; then hf_end "${words[1]}"; fi ;;
      over) unset "hf_live[${words[1]}]"; hf_hint; hf_ended "${words[1]}" "${words[2]}" ;;
      begun) hf_hint ;;
      stop | warn) hf_obey "${words[@]}" ;;
      closed) hf_live=() ;;
    esac
    if ((hf_rung || SECONDS - looked >= HF_WATCH)); then
      hf_rung=0 looked=$SECONDS
      hf_read_orders
      if [[ -z $hf_self ]]; then printf 'alive\n' >"$HF_FOLDER/alive"; fi
      if ((hf_gang == 0)); then hf_weigh; fi
    fi
    if [[ -n $hf_stop ]] && ((hf_gang == 0)); then
      for rank in "${!hf_live[@]}"; do  # a word of it could have been lost
        if ! kill -0 "${hf_leader[$rank]}" 2>/dev/null; then hf_over[$rank]=1; fi
      done
      for rank in "${!hf_over[@]}"; do hf_end "$rank"; done
      hf_now
      for rank in "${!hf_live[@]}"; do
        if ((hf_now >= hf_deadline)); then
          hf_kill "$rank"
        elif [[ -z ${hf_sent[$rank]:-} ]]; then
          hf_signal "$rank" "$hf_stop"
        fi
      done
    fi
  done
}

hf_devices() {  # those of a rank, into hf_devices: Slurm gives a node's to all of its tasks together
  local -a all
  IFS=, read -r -a all <<<"${CUDA_VISIBLE_DEVICES:-}"
  local from=$1 count=$2 IFS=,
  hf_devices="${all[*]:from:count}"
}

hf_node() {  # the ranks of this node
  local name ranks line=0 rank first=0 count
  while read -r name ranks; do
    if [[ $name = "${SLURMD_NODENAME:-}" || ($name = '*' && $line = "${SLURM_NODEID:-0}") ]]; then break; fi
    line=$((line + 1)) ranks=''
  done <"$HF_FOLDER/plan"
  for rank in $ranks; do
    read -r count <"$HF_FOLDER/$rank/task/devices"
    hf_devices "$first" "$count"
    hf_start "$rank" "$hf_devices"
    first=$((first + count))
  done
  if [[ -n $hf_self ]]; then printf 'begun\n'; else hf_hint; fi
  hf_loop
}

hf_claim() {  # of several batch jobs for this attempt, one only runs it
  if [[ -n ${HF_SEAL:-} && ! -s $HF_FOLDER/sealed.${HF_SEAL:0:16} ]]; then exit 124; fi
  set -C
  { printf '%s\n' "$SLURM_JOB_ID" >"$HF_FOLDER/claim"; } 2>/dev/null || exit 124
  set +C
  printf 'job %s %s %s\n' "$SLURM_JOB_ID" "${SLURM_JOB_NODELIST:--}" "${SLURM_JOB_NAME:-}" >>"$HF_FOLDER/taken"
}

hf_follow() {  # another attempt of the same shape, which the server hands over by the file `next`; or leave by making it
  local next=$HF_FOLDER/next looks=$HF_LOOKS allocation='' more='' folder=''
  if ((HF_LOOKS == 0)); then return 1; fi
  if [[ -n $hf_stop ]]; then looks=0; fi
  while ((looks-- > 0 && SECONDS < 10 && hf_termed == 0)); do
    { read -r allocation more folder <"$next"; } 2>/dev/null && break
    folder=''
    read -r -t 0.025 -u 7
  done
  if [[ -z $folder ]]; then
    set -C
    { printf 'left\n' >"$next"; } 2>/dev/null && exit 0
    set +C
    for looks in 1 2 3 4 5 6 7 8; do  # it was made at this moment, or long ago and not shown to us
      { read -r allocation more folder <"$next"; } 2>/dev/null && break
      folder=''
      read -r -t 0.025 -u 7
    done
    if [[ -z $folder ]]; then return 1; fi
  fi
  if [[ -n $hf_stop ]] || ((hf_termed)); then return 1; fi  # Slurm ends us: the next one is for another batch job
  HF_FOLDER=$folder HF_LOOKS=$more HF_SEAL='' hf_allocation=$allocation
  hf_orders=0 hf_failed=0 hf_stop='' hf_deadline=0 hf_rung=0
  hf_live=() hf_leader=() hf_over=() hf_sent=() hf_signalled=()
  hf_claim
}

hf_find_hosts() {  # where Slurm chose the nodes: whom the tasks will speak to
  local host line rank hosts=() slots='' count
  while read -r host; do hosts+=("$host"); done < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
  local number=0 all=() name ranks
  while read -r name ranks; do
    for rank in $ranks; do all[rank]=${hosts[number]}; done
    number=$((number + 1))
  done <"$HF_FOLDER/plan"
  local IFS=,
  printf "export MASTER_ADDR='%s'\nexport HEADFRAME_HOSTS='%s'\n" "${all[0]}" "${all[*]}" >"$HF_FOLDER/found"
}

hf_open_ear ${HF_EAR:-}
if [[ -n $hf_self ]]; then  # one node of a gang: orders come on standard input, ends go to standard output
  (while read -r line; do printf '%s\n' "$line" >&7; done; printf 'stop KILL 0\n' >&7) <&0 >/dev/null &
  hf_forward=$!
  exec </dev/null
  hf_node
  kill -s KILL "$hf_forward" 2>/dev/null  # nothing of ours stays: Slurm would wait for it
  exit 0
fi
hf_claim
read -r hf_first_node _ <"$HF_FOLDER/plan"
if [[ $hf_first_node = '*' ]]; then hf_find_hosts; fi
mapfile -t hf_plan <"$HF_FOLDER/plan"
if ((${#hf_plan[@]} == 1)); then
  hf_node
  while hf_follow; do hf_node; done
else
  hf_gang=1
  while read -r hf_first_node ranks; do
    for rank in $ranks; do hf_live[$rank]=1; done
  done <"$HF_FOLDER/plan"
  exec 8> >(
    exec 6>&- 7>&7
    srun --ntasks-per-node=1 --whole --cpu-bind=none --mem=0 --mpi=none --kill-on-bad-exit=0 --input=all --unbuffered \
      bash -c 'export HF_SELF=1; . "$0"' "$HF_LEADER" 2>>"$HF_FOLDER/srun" >&7
    printf 'closed\n' >&7
  )
  hf_loop
  hf_hint
  exec 8>&-
  while read -r -t 10 -u 7 line && [[ $line != closed ]]; do :; done
  hf_hint
fi
exit 0
