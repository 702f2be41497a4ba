import * as z from 'zod/mini';
import { isSocketPath } from './socket-text.ts';

const port = z.int().check(z.minimum(1), z.maximum(65_535));
export const protocol = z.enum(['tcp', 'udp']);
/** A port of the host that leads into a VM. */
export const publishedPort = z.object({
  protocol,
  /** Address of the host; 0.0.0.0 means all */
  bind: z.string(),
  hostPort: z.int(),
  guestPort: z.int(),
  /** Present, and true, when it came with what listens in the guest, and goes with it */
  followed: z.optional(z.boolean()),
  /** Present, and true, when the host's port was left to the engine: the next start takes another if it must */
  chosen: z.optional(z.boolean()),
  /** Port of the host that a tree asks for if it is free; present when another one has it */
  wished: z.optional(z.int()),
});

/** A port to publish. */
export const portRequest = z.object({
  protocol: z._default(protocol, 'tcp'),
  bind: z._default(z.ipv4(), '127.0.0.1'),
  /** Absent: any that is free */
  hostPort: z.optional(port),
  guestPort: port,
});

const socketPath = z
  .string()
  .check(z.refine(isSocketPath, 'is not an absolute path of at most 107 bytes without colons'));

/** A Unix socket of the host that leads to one of the guest. */
export const publishedSocket = z.object({ hostPath: socketPath, guestPath: socketPath });
