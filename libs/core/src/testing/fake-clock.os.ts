/**
 * A wall clock of its own for a test's server: libfaketime answers when Postgres asks for the time, with an offset that the test changes while the server
 * runs. Timers and the monotonic clock stay real, as they do when an administrator or NTP sets a machine's clock.
 */
import { existsSync, mkdtempSync, readdirSync, renameSync, rmSync, writeFileSync, chmodSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** The library's path, or why there is none. */
export function findFakeClock(): { readonly library: string } | { readonly missing: string } {
  if (process.platform !== 'linux') return { missing: 'libfaketime is used on Linux only' };
  const folders = existsSync('/usr/lib') ? readdirSync('/usr/lib') : [];
  const paths = ['', ...folders].map((folder) => join('/usr/lib', folder, 'faketime/libfaketime.so.1'));
  const library = paths.find((path) => existsSync(path));
  return library === undefined
    ? { missing: 'libfaketime is not installed (Debian: apt-get install faketime)' }
    : { library };
}

export class FakeClock implements Disposable {
  readonly #folder: string;
  readonly #library: string;

  constructor(library: string) {
    this.#library = library;
    this.#folder = mkdtempSync(join(tmpdir(), 'pgquorum-clock-'));
    chmodSync(this.#folder, 0o755); // the servers' account reads it
    this.set(0);
  }

  /** From now on the clock is this far ahead; negative: behind. */
  set(offsetSeconds: number): void {
    // Renamed into place: a server never reads half of it.
    const next = join(this.#folder, 'next');
    writeFileSync(next, `${offsetSeconds < 0 ? '' : '+'}${offsetSeconds}\n`, { mode: 0o644 });
    renameSync(next, this.#file);
  }

  get #file(): string {
    return join(this.#folder, 'offset');
  }

  /** For the server's environment. */
  get environment(): Readonly<Record<string, string>> {
    return {
      LD_PRELOAD: this.#library,
      FAKETIME_TIMESTAMP_FILE: this.#file,
      FAKETIME_NO_CACHE: '1',
      FAKETIME_DONT_FAKE_MONOTONIC: '1',
      DONT_FAKE_MONOTONIC: '1',
    };
  }

  [Symbol.dispose](): void {
    rmSync(this.#folder, { recursive: true, force: true });
  }
}
