import * as z from 'zod/mini';
import { question } from './method.ts';

const sha256 = z.string().check(z.regex(/^[0-9a-f]{64}$/));

/** Of what the files say by which a tree names tools, when the user agrees to it, now and as long as they stay so. */
export const trustTools = z.optional(sha256);

/** Which file of the tree, when the user has chosen one */
const chosenFile = z.optional(z.string().check(z.minLength(1), z.maxLength(4096)));

/** A template that a client was shown, and whether the user agrees to it. Absent: templates are not used. */
export const templateChoice = z.optional(
  z.object({
    /** Hex, of the file that was shown */
    sha256,
    file: chosenFile,
    /** Agree to what it asks for, now and as long as the file stays as it is */
    trust: z._default(z.boolean(), false),
  }),
);

/** What a working tree says about a VM that is made for it. The file may be a stranger's: its words are data. */
export const templateRead = question(
  'template.read',
  z.object({
    /** A directory of the tree, absolute */
    path: z.string().check(z.regex(/^\//)),
    /** The user has chosen an image: the file need not have one */
    hasImage: z._default(z.boolean(), false),
    file: chosenFile,
    /** Leave the template unread, which need not be right when it is not used */
    toolsOnly: z._default(z.boolean(), false),
    /** Say nothing when the tree has a VM already, since none will be made */
    unlessBound: z._default(z.boolean(), false),
  }),
  z.object({
    /** Top of the working tree */
    hostPath: z.string(),
    /** Files by which mise would do more than install tools, to which the user has yet to agree */
    tools: z.optional(
      z.object({ sha256: z.string(), files: z.array(z.object({ name: z.string(), text: z.string() })) }),
    ),
    /** Absent when the tree says nothing */
    template: z.optional(
      z.object({
        /** Path below the tree */
        file: z.string(),
        sha256: z.string(),
        image: z.optional(z.string()),
        cpus: z.optional(z.int()),
        memoryMib: z.optional(z.int()),
        diskBytes: z.optional(z.number()),
        guestPath: z.optional(z.string()),
        ports: z.array(z.string()),
        env: z.record(z.string(), z.string()),
        setup: z.array(z.string()),
        /** What the user has to agree to */
        asksFor: z.object({
          image: z.optional(z.string()),
          commands: z.array(z.string()),
          variables: z.array(z.string()),
          /** Where the tree goes in the guest */
          place: z.optional(z.string()),
          ports: z.array(z.string()),
        }),
        /** False when the user has yet to agree */
        isAgreed: z.boolean(),
        /** What it asks for and does not get */
        warnings: z.array(z.string()),
      }),
    ),
  }),
);
