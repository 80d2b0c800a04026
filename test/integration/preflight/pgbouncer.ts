/** The real PgBouncer, where the machine has one. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync, writeFileSync, chmodSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { serverAccount } from '#core/embedded/account.os.ts';
import { freePorts, isPortFree } from '#core/embedded/ports.os.ts';
import { eventually } from '#core/testing/wait.process.ts';

export const pgbouncerPath = ['/usr/sbin/pgbouncer', '/usr/bin/pgbouncer'].find((path) => existsSync(path));

export async function startPgBouncer(
  target: string,
  mode: 'transaction' | 'session',
): Promise<{ url: string } & AsyncDisposable> {
  const url = new URL(target);
  const folder = mkdtempSync(join(tmpdir(), 'pgquorum-pgbouncer-'));
  chmodSync(folder, 0o755);
  const [port] = await freePorts(1);
  const database = url.pathname.slice(1);
  writeFileSync(join(folder, 'users'), `"${url.username}" "${decodeURIComponent(url.password)}"\n`);
  writeFileSync(
    join(folder, 'ini'),
    `[databases]\n${database} = host=${url.hostname} port=${url.port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = ${port}\nunix_socket_dir =\nauth_type = scram-sha-256\nauth_file = ${join(folder, 'users')}\npool_mode = ${mode}\n`,
  );
  const account = serverAccount();
  const child = spawn(pgbouncerPath!, [join(folder, 'ini')], {
    stdio: 'ignore',
    ...(account === undefined ? {} : { uid: account.uid, gid: account.gid }),
  });
  const gone = once(child, 'exit');
  await eventually('PgBouncer listens', async () => !(await isPortFree(port!)));
  url.port = String(port);
  return {
    url: url.href,
    [Symbol.asyncDispose]: async () => {
      child.kill('SIGKILL');
      await gone;
      rmSync(folder, { recursive: true });
    },
  };
}
