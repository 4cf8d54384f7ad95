// k6's gRPC client: METHOD of ADDRESS, with a request of WAIT bytes.
import grpc from 'k6/net/grpc';
import encoding from 'k6/encoding';

const client = new grpc.Client();
client.load([__ENV.DIRECTORY], 'kit.proto');
// Two of the bytes are the field's own.
const wait = encoding.b64encode('x'.repeat(Number(__ENV.WAIT) - 2));
let open = false;

export default function () {
  if (!open) {
    client.connect(__ENV.ADDRESS, { plaintext: true });
    open = true;
  }
  client.invoke(`kit.Waits/${__ENV.METHOD}`, { wait });
}
