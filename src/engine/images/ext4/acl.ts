/** Tags of ACL entries that name a user or a group */
const namedTags: readonly number[] = [0x02, 0x08];
const knownTags: readonly number[] = [0x01, 0x02, 0x04, 0x08, 0x10, 0x20];

/**
 * Turns a POSIX ACL from the form of the xattr system calls (version 2, 8 bytes
 * per entry) into the one ext4 stores (version 1; fs/ext4/acl.h), which leaves
 * out the id where there is none. Undefined if it is not such an ACL.
 */
export function encodeAcl(value: Buffer): Buffer | undefined {
  if (value.length < 4 || value.length % 8 !== 4 || value.readUInt32LE(0) !== 2) return undefined;
  const parts: Uint8Array[] = [Uint8Array.of(1, 0, 0, 0)];
  for (let offset = 4; offset < value.length; offset += 8) {
    const tag = value.readUInt16LE(offset);
    if (!knownTags.includes(tag)) return undefined;
    parts.push(value.subarray(offset, offset + (namedTags.includes(tag) ? 8 : 4)));
  }
  return Buffer.concat(parts);
}
