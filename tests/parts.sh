# Sourced by the scripts here: says which tests are of what kind, runs a test run's parts one after the other and says at the
# end what each took.

# Test programs that are pure: no PostgreSQL, no etcd, no Docker.
PURE='architecture dcs_memory model scenarios shell sim'
# Those that drive containers, and are named when they are wanted.
CONTAINERS='container'

# pure, with_servers: what chooses a kind of tests for `cargo test`. Whatever is not pure has servers, so that none is left
# out; a name in PURE that no file has is cargo's error.
pure() { printf '%s ' --lib --bins $(printf -- '--test %s ' $PURE); }
with_servers() {
    local file name
    for file in tests/*.rs tests/*/main.rs; do
        name=${file#tests/} name=${name%/main.rs} name=${name%.rs}
        case " $PURE $CONTAINERS " in
        *" $name "*) ;;
        *) printf -- '--test %s ' "$name" ;;
        esac
    done
}

parts=()

# Where each part's output is kept. The servers that tests start write their logs there, thousands of lines of a run in
# which all is well.
OUTPUT=target/parts
# So many last lines of a part that failed are shown: what failed stands at the end of a test program's output.
SHOWN=300

# part NAME COMMAND…: the first failure ends the run. Its output is shown only then.
part() {
    local name=$1 began=$SECONDS status=0
    shift
    printf '\n== %s\n' "$name"
    mkdir -p "$OUTPUT"
    local log="$OUTPUT/${name//[^a-z0-9]/-}.log"
    "$@" </dev/null >"$log" 2>&1 || status=$?
    if [ $status = 0 ]; then
        # How many tests there were, and what was not done.
        grep -E '^(test result: |[0-9]+ passed, |note: )' "$log" || true
    else
        tail -n "$SHOWN" "$log"
        printf '\n== the whole output of this part: %s\n' "$log"
    fi
    parts+=("$(printf '%6d s  %-8s %s' $((SECONDS - began)) "$([ $status = 0 ] && echo ok || echo "FAILED ($status)")" "$name")")
    [ $status = 0 ] || exit $status
}

summary() {
    printf '\n== what each part took\n'
    [ ${#parts[@]} = 0 ] || printf '%s\n' "${parts[@]}"
    printf '%6d s  in all\n' "$SECONDS"
}
trap summary EXIT
