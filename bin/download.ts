import { homedir } from 'node:os';
import { parentPort } from 'node:worker_threads';
import { runDownloads } from '../src/engine/images/downloads/download-thread.ts';
import { localDownloads } from '../src/engine/images/downloads/local-downloads.ts';
import { dockerCredentials } from '../src/engine/images/registry/docker-auth.ts';
import { defaultPace } from '../src/engine/images/registry/download-pace.ts';
import { hostCertificates } from '../src/engine/images/registry/host-certificates.ts';
import { createTransport } from '../src/engine/images/registry/transport.ts';
import { exec } from '../src/host/exec.ts';

const retryDelayMs = 500;

/** The thread that fetches from registries and other servers; an engine has one while something is fetched. */
runDownloads(parentPort!, ({ registries, log }) =>
  localDownloads({
    transport: createTransport({ env: process.env, certificates: hostCertificates(registries) }),
    credentials: dockerCredentials({ env: process.env, home: homedir(), exec, log }),
    registries,
    retryDelayMs,
    pace: defaultPace,
    log,
  }),
);
