import { headers } from './headers.ts';
import type { HostileLayer } from './hostile-layer.ts';
import { paths, whiteouts } from './paths.ts';
import { bombs, streams } from './streams.ts';

/** Every hostile layer; a test goes through them with `test.each`. */
export const hostileLayers: readonly HostileLayer[] = [
  ...paths,
  ...whiteouts,
  ...headers,
  ...streams,
  ...bombs,
];
