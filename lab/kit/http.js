// k6 over HTTP/1.1 or, where the server speaks it, HTTP/2: URL, and as many iterations as k6 is told.
import http from 'k6/http';

export default function () {
  http.get(__ENV.URL);
}
