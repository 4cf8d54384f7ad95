# Calls the gateway as the article did, and prints one JSON report a run. It fails when a call does.
set -eu

host=${CAPITOL_CLIENT_SERVICE_HOST:?the Service capitol-client has to be there first}
address=$host
case $host in
  *:*) address="[$host]" ;;
esac
url=http://$address:8000/api/capitols

tries=0
until wget -q -T 2 -O /dev/null "$url"; do
  tries=$((tries + 1))
  if [ "$tries" -ge 60 ]; then
    echo "load: $url does not answer" >&2
    exit 1
  fi
  sleep 1
done

status=0
for method in GET POST; do
  headers='["host", "capitol-client:8000"]'
  body=
  if [ "$method" = POST ]; then
    headers="$headers, [\"content-type\", \"application/json\"]"
    body='{\"country\": \"France\", \"city\": \"Paris\"}'
  fi
  run=1
  while [ "$run" -le "$RUNS" ]; do
    report=$(
      hoptrace-load --allow "$host" <<END
{"url": "$url", "method": "$method", "headers": [$headers], "body": "$body",
 "connections": $CONNECTIONS, "schedule": {"count": $CALLS}, "request_ids": true}
END
    )
    echo "{\"method\": \"$method\", \"run\": $run, \"report\": $report}"
    case $report in
      *'"failed":0,'*) ;;
      *) status=1 ;;
    esac
    run=$((run + 1))
  done
done
exit "$status"
