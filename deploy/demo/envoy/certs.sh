#!/bin/sh
# Writes two Secrets to standard output: for each service of the demo a key, a certificate with its
# SPIFFE identity, and the authority that signed both. The authority's key is thrown away.
#
#   sh deploy/demo/envoy/certs.sh | kubectl apply -f -
set -eu

namespace=capitol
days=30
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT INT TERM
umask 077

new_key() {
  openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1" 2>/dev/null
}

new_key "$dir/ca.key"
openssl req -x509 -new -key "$dir/ca.key" -days "$days" -subj /O=cluster.local \
  -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign \
  -out "$dir/ca.crt"

for workload in capitol-client capitol-info; do
  new_key "$dir/tls.key"
  openssl req -new -key "$dir/tls.key" -subj / -out "$dir/tls.csr"
  cat > "$dir/leaf" <<END
basicConstraints = critical,CA:FALSE
keyUsage = critical,digitalSignature,keyEncipherment
extendedKeyUsage = serverAuth,clientAuth
subjectAltName = critical,URI:spiffe://cluster.local/ns/$namespace/sa/$workload
END
  openssl x509 -req -in "$dir/tls.csr" -CA "$dir/ca.crt" -CAkey "$dir/ca.key" -CAcreateserial \
    -days "$days" -extfile "$dir/leaf" -out "$dir/tls.crt" 2>/dev/null
  cat <<END
---
apiVersion: v1
kind: Secret
metadata:
  name: certs-$workload
  namespace: $namespace
type: Opaque
data:
  ca.crt: $(base64 -w 0 "$dir/ca.crt")
  tls.crt: $(base64 -w 0 "$dir/tls.crt")
  tls.key: $(base64 -w 0 "$dir/tls.key")
END
done
