# Guards one program: reports its pid and its end, and kills it when the parent is gone.
#
#   stdin   a pipe that the parent holds open and never writes to; its end means that the parent is gone
#   stdout  "started PID" and "ended CODE", a line each
#   $1      the program's log; $2 a directory to remove at the end, or ""; the rest is the program
#
# The program runs in the foreground of its shell: a background job would start with SIGINT ignored.
log=$1 dir=$2
shift 2
trap : HUP INT QUIT TERM PIPE
exec 3<&0 </dev/null 2>/dev/null
{
  trap : HUP INT QUIT TERM PIPE
  {
    trap '' HUP INT QUIT TERM PIPE
    while read -r _; do :; done <&3
    echo orphaned
  } &
  exec 3<&-
  sh -c 'echo "started $$"; exec >>"$0" 2>&1; exec "$@"' "$log" "$@"
  echo "ended $?"
  wait
} | {
  trap '' HUP INT QUIT TERM PIPE
  exec 3<&-
  pid= orphaned=
  while read -r event value; do
    case $event in
    started) pid=$value; echo "started $value" ;;
    ended) pid=; echo "ended $value" ;;
    orphaned) orphaned=yes ;;
    esac
    if [ "$orphaned" ] && [ "$pid" ]; then kill -KILL "$pid"; fi
  done
  # Others may still write into the directory, for as long as their own supervisors need.
  tries=0
  while [ "$dir" ] && ! rm -rf -- "$dir" && [ "$tries" -lt 20 ]; do
    tries=$((tries + 1))
    sleep 1
  done
}
