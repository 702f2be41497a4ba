const word = /^(?:[A-Za-z0-9][\w.-]*)?$/;
const words = /^[\w.,:=*@+-]*$/;
const locale = /^[\w.@:-]*$/;
const zone = /^(?:[A-Za-z][\w+-]*(?:\/[\w+-]+){0,2})?$/;
const toggle = /^(?:\d{0,9}|true|false|yes|no|on|off)$/i;
const address = /^(?:localhost|127\.0\.0\.1|0\.0\.0\.0|::1?)$/;

/** Variables of which it is known what programs do with them, and values with which that is nothing but what they say. */
const harmless: readonly (readonly [name: RegExp, value: RegExp])[] = [
  [/^(?:NODE|RAILS|RACK|MIX|GO|APP|FLASK)_ENV$/, word],
  [/^(?:ASPNETCORE|DOTNET)_ENVIRONMENT$/, word],
  [/^ENVIRONMENT$/, word],
  [/^(?:DEBUG|RUST_LOG|LOG_LEVEL|RUST_BACKTRACE)$/, words],
  [/^(?:LANG|LANGUAGE|LC_[A-Z]+)$/, locale],
  [/^TZ$/, zone],
  [/^(?:CI|NO_COLOR|FORCE_COLOR|CLICOLOR|CLICOLOR_FORCE|VERBOSE)$/, toggle],
  [/^(?:DO_NOT_TRACK|NEXT_TELEMETRY_DISABLED|DOTNET_CLI_TELEMETRY_OPTOUT|ASTRO_TELEMETRY_DISABLED)$/, toggle],
  [/^PYTHON(?:UNBUFFERED|DONTWRITEBYTECODE|FAULTHANDLER|HASHSEED|UTF8)$/, toggle],
  [/^(?:CGO_ENABLED|GOMAXPROCS|OMP_NUM_THREADS|UV_THREADPOOL_SIZE)$/, toggle],
  [/^(?:GOOS|GOARCH)$/, word],
  [/^(?:PORT|[A-Z][A-Z0-9]*_PORT)$/, /^\d{1,5}$/],
  [/^(?:HOST|BIND)$/, address],
  [/^DEBIAN_FRONTEND$/, /^noninteractive$/],
];

/**
 * Whether a stranger may choose a variable of every program in a VM. Any program may have one by which it loads code or
 * asks another server, and files of the tree have names without a slash, too: so only those that are known.
 */
export function isHarmless(name: string, value: string): boolean {
  return harmless.some(([names, values]) => names.test(name) && values.test(value));
}
