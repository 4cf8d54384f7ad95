// Node's own http: 200 after ?delay= ms, with a body of ?size= bytes. Each exchange is a line of the log,
// stamped with the monotonic clock: node - PORT LOG [h2]
import fs from 'node:fs';
import http from 'node:http';
import http2 from 'node:http2';

const [port, log, version] = process.argv.slice(2);
const lines = fs.openSync(log, 'a');
const now = () => process.hrtime.bigint();

function answer(request, response) {
  const read = now();
  const { pathname, searchParams } = new URL(request.url, 'http://node');
  const number = (name) => Number(searchParams.get(name) ?? 0);
  request.resume();
  setTimeout(() => {
    const body = Buffer.alloc(number('size') || 2, 'x');
    const wrote = now();
    response.writeHead(200, { 'content-length': body.length });
    response.end(request.method === 'HEAD' ? undefined : body);
    fs.writeSync(lines, `{"path":"${pathname}","read":${read},"wrote":${wrote},"status":200}\n`);
  }, number('delay'));
}

const server = version === 'h2' ? http2.createServer(answer) : http.createServer(answer);
server.keepAliveTimeout = 600_000;
server.listen(Number(port), '0.0.0.0');
