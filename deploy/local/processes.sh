# Sourced by `stack` and `demo`: programs in the background, known by the files $folder/NAME.pid. Each leads a session of its
# own, so that what it started is found and ended with it; its start time tells it from a later process with the same id.
# shellcheck shell=bash disable=SC2154 # $folder is set by who sources this

# started PID: when it started, in clock ticks since boot; nothing for one that has ended and only awaits its parent.
started() {
    local line fields
    line=$(cat "/proc/$1/stat" 2>/dev/null) || return 0
    read -ra fields <<<"${line##*) }"
    [ "${fields[0]}" = Z ] || echo "${fields[19]}"
}

# members NAME: the processes of what was launched as NAME that still run.
members() {
    local pid start now
    read -r pid start 2>/dev/null <"$folder/$1.pid" || return 0
    now=$(started "$pid")
    [ -z "$now" ] || [ "$now" = "$start" ] || return 0
    # Fields after the name, which may hold anything: state, parent, group, session. The leader counts before it has its session:
    # on a busy machine it may be asked for within the millisecond between the two.
    { cat /proc/[0-9]*/stat 2>/dev/null || true; } | sed 's/^\([0-9]*\) (.*) /\1 /' |
        awk -v session="$pid" '($5 == session || $1 == session) && $2 != "Z" { print $1 }'
}

alive() { [ -n "$(members "$1")" ]; }

# launch NAME COMMAND...: starts it with its output in $folder/log/NAME.log.
launch() {
    local name=$1
    shift
    setsid "$@" >"$folder/log/$name.log" 2>&1 </dev/null 9>&- &
    echo "$! $(started $!)" >"$folder/$name.pid"
}

# ensure_logins: the logins of the services that `stack env` names, once the migrations have run.
ensure_logins() {
    # An existing Postgres is left as it is: who set PERITO_DATABASE_URL sets the services' URLs too, or they use that one.
    [[ ${PERITO_COORDINATOR_DATABASE_URL:-} == postgres://perito_coordinator_1:perito@127.0.0.1:* ]] || return 0
    PERITO_COORDINATOR_PASSWORD=perito PERITO_WORKER_PASSWORD=perito psql -Xqf "$root/deploy/logins.sql" "$PERITO_DATABASE_URL"
}

# launch_service NAME PROGRAM [ARGUMENT...]: a coordinator or a worker, with its own login in Postgres.
launch_service() {
    local url=PERITO_${1^^}_DATABASE_URL
    PERITO_DATABASE_URL=${!url:-$PERITO_DATABASE_URL} launch "$@"
}

# ensure_token: a token of the API for whoever uses this stack, made once, in a file that PERITO_TOKEN_FILE names from now on.
ensure_token() {
    local file=$folder/token
    [ -s "$file" ] || (umask 077 && "$programs/perito" token create "local-$(date +%s)" --role admin --direct >"$file.new" && mv "$file.new" "$file")
    export PERITO_TOKEN_FILE=$file
}

# stop NAME SECONDS [SIGNAL]: asks it to end, and insists when it does not.
stop() {
    local pids tries=$(($2 * 10))
    pids=$(members "$1")
    # shellcheck disable=SC2086 # one word for each process
    [ -z "$pids" ] || kill -s "${3:-TERM}" $pids 2>/dev/null || true
    while alive "$1"; do
        sleep 0.1
        tries=$((tries - 1))
        # shellcheck disable=SC2046
        [ $tries -gt 0 ] || kill -s KILL $(members "$1") 2>/dev/null || true
    done
    rm -f "$folder/$1.pid"
}
