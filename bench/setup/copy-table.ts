/** The baseline of joining: `pg_dump | pg_restore` of one table from one server to another, uncompressed in between. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { serverEnvironment } from '#core/embedded/installation.os.ts';
import { templateFor } from '#core/testing/template.pg.ts';

export async function copyTable(from: string, to: string, table: string): Promise<void> {
  const { installation, account } = await templateFor(18, 0);
  const program = (name: string, flags: readonly string[]) => installation.command(name, [...flags], { account }); // prettier-ignore
  const dump = program('pg_dump', ['--format=custom', '--compress=0', `--table=public.${table}`, from]);
  const restore = program('pg_restore', ['--no-owner', '--no-privileges', '--exit-on-error', `--dbname=${to}`]); // prettier-ignore
  const env = serverEnvironment();
  const reading = spawn(dump.file, dump.args, { env, stdio: ['ignore', 'pipe', 'pipe'] });
  const writing = spawn(restore.file, restore.args, { env, stdio: [reading.stdout, 'ignore', 'pipe'] });
  const ends = [reading, writing].map(async (child, at) => {
    const [said, [code]] = await Promise.all([text(child.stderr), once(child, 'exit')]);
    if (code !== 0) throw new Error(`${at === 0 ? 'pg_dump' : 'pg_restore'} ended with ${code}: ${said}`);
  });
  await Promise.all(ends);
}
