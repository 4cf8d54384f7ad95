# Calls the gateway as the article did, and prints one JSON report a run. It fails when a call does.
set -eu

host=${CAPITOL_CLIENT_SERVICE_HOST:?the Service capitol-client has to be there first}
address=$host
case $host in
  *:*) address="[$host]" ;;
esac
url=http://$address:8000/api/capitols

# call METHOD HEADERS BODY CONNECTIONS CALLS
call() {
  hoptrace-load --allow "$host" <<END
{"url": "$url", "method": "$1", "headers": [$2], "body": "$3",
 "connections": $4, "schedule": {"count": $5}, "request_ids": true}
END
}

# Whether every call of a report had an answer of 2xx.
succeeded() {
  case $1 in
    *'"failed":0,'*) return 0 ;;
  esac
  return 1
}

for_the_service='["host", "capitol-client:8000"]'
for_json="$for_the_service, [\"content-type\", \"application/json\"]"
paris='{\"country\": \"France\", \"city\": \"Paris\"}'

tries=0
until report=$(call GET "$for_the_service" "" 1 1 2>&1) && succeeded "$report"; do
  tries=$((tries + 1))
  if [ "$tries" -ge 60 ]; then
    echo "load: $url does not answer: $report" >&2
    exit 1
  fi
  sleep 1
done

status=0
for method in GET POST; do
  headers=$for_the_service
  body=
  if [ "$method" = POST ]; then
    headers=$for_json
    body=$paris
  fi
  run=1
  while [ "$run" -le "$RUNS" ]; do
    report=$(call "$method" "$headers" "$body" "$CONNECTIONS" "$CALLS")
    echo "{\"method\": \"$method\", \"run\": $run, \"report\": $report}"
    succeeded "$report" || status=1
    run=$((run + 1))
  done
done
exit "$status"
