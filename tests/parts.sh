# Sourced by the scripts here: runs a test run's parts one after the other and says at the end what each took.

parts=()

# part NAME COMMAND…: the first failure ends the run.
part() {
    local name=$1 began=$SECONDS status=0
    shift
    printf '\n== %s\n' "$name"
    "$@" </dev/null || status=$?
    parts+=("$(printf '%6d s  %-8s %s' $((SECONDS - began)) "$([ $status = 0 ] && echo ok || echo "FAILED ($status)")" "$name")")
    [ $status = 0 ] || exit $status
}

summary() {
    printf '\n== what each part took\n'
    [ ${#parts[@]} = 0 ] || printf '%s\n' "${parts[@]}"
    printf '%6d s  in all\n' "$SECONDS"
}
trap summary EXIT
