import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** An authority that nobody knows, and a certificate of its for one name, as PEM files. */
export interface TestCertificates extends Disposable {
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
  readonly pem: { readonly cert: string; readonly key: string };
}

/** `name` is as in a certificate: `IP:127.0.0.1` or `DNS:registry.test`. */
export function makeCertificates(name: string): TestCertificates {
  const directory = mkdtempSync(join(tmpdir(), 'bt-tls-'));
  const file = (base: string): string => join(directory, base);
  const openssl = (...args: string[]): void =>
    void execFileSync('openssl', args, { cwd: directory, stdio: 'pipe' });
  const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
  openssl(
    'req',
    '-x509',
    ...newKey,
    '-keyout',
    'ca.key',
    '-out',
    'ca.crt',
    '-subj',
    '/CN=Test CA',
    '-days',
    '2',
  );
  openssl('req', ...newKey, '-keyout', 'server.key', '-out', 'server.csr', '-subj', '/CN=server');
  writeFileSync(file('ext'), `subjectAltName=${name}\n`);
  openssl(
    ...['x509', '-req', '-in', 'server.csr', '-CA', 'ca.crt', '-CAkey', 'ca.key', '-CAcreateserial'],
    ...['-extfile', 'ext', '-out', 'server.crt', '-days', '2'],
  );
  const [ca, cert, key] = [file('ca.crt'), file('server.crt'), file('server.key')];
  return {
    ca,
    cert,
    key,
    pem: { cert: readFileSync(cert, 'utf8'), key: readFileSync(key, 'utf8') },
    [Symbol.dispose]: () => rmSync(directory, { recursive: true }),
  };
}
