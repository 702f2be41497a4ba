/*
 * Git's names of contents: SHA-1 (FIPS 180-4) over what it is, its length, and the content. begin_blob, then digest for
 * each piece, then hash_text.
 */

static struct {
  unsigned state[5];
  unsigned char block[64];
  unsigned long bytes;
} hash;

static unsigned rotate(unsigned value, int by) {
  return value << by | value >> (32 - by);
}

static void digest_block(void) {
  unsigned words[80], a = hash.state[0], b = hash.state[1], c = hash.state[2], d = hash.state[3], e = hash.state[4];
  int at;
  for (at = 0; at < 16; at++) {
    const unsigned char *from = hash.block + 4 * at;
    words[at] = (unsigned)from[0] << 24 | from[1] << 16 | from[2] << 8 | from[3];
  }
  for (; at < 80; at++)
    words[at] = rotate(words[at - 3] ^ words[at - 8] ^ words[at - 14] ^ words[at - 16], 1);
  for (at = 0; at < 80; at++) {
    unsigned mixed = at < 20   ? ((b & c) | (~b & d)) + 0x5a827999
                     : at < 40 ? (b ^ c ^ d) + 0x6ed9eba1
                     : at < 60 ? ((b & c) | (b & d) | (c & d)) + 0x8f1bbcdc
                               : (b ^ c ^ d) + 0xca62c1d6;
    unsigned next = rotate(a, 5) + mixed + e + words[at];
    e = d;
    d = c;
    c = rotate(b, 30);
    b = a;
    a = next;
  }
  hash.state[0] += a;
  hash.state[1] += b;
  hash.state[2] += c;
  hash.state[3] += d;
  hash.state[4] += e;
}

static void digest(const char *from, long length) {
  while (length-- > 0) {
    hash.block[hash.bytes++ % 64] = *from++;
    if (hash.bytes % 64 == 0) digest_block();
  }
}

/* Git's name of a content begins with what it is and how long. */
static void begin_blob(long size) {
  char digits[24];
  int at = sizeof digits;
  hash.state[0] = 0x67452301;
  hash.state[1] = 0xefcdab89;
  hash.state[2] = 0x98badcfe;
  hash.state[3] = 0x10325476;
  hash.state[4] = 0xc3d2e1f0;
  hash.bytes = 0;
  digits[--at] = 0;
  do digits[--at] = '0' + size % 10;
  while ((size /= 10) > 0);
  digest("blob ", 5);
  digest(digits + at, sizeof digits - at);
}

/* Its 40 digits. */
static void hash_text(char *text) {
  unsigned long bits = hash.bytes * 8;
  int at;
  digest("\x80", 1);
  while (hash.bytes % 64 != 56) digest("", 1);
  for (at = 56; at >= 0; at -= 8) {
    char byte = bits >> at;
    digest(&byte, 1);
  }
  for (at = 0; at < 40; at++) text[at] = "0123456789abcdef"[hash.state[at / 8] >> (28 - at % 8 * 4) & 15];
}
