/** What pg_dump says about a database, but for pgquorum's own schema. */
import { serverEnvironment } from '#core/embedded/installation.os.ts';
import { run } from '#core/embedded/process.os.ts';
import type { TestCluster } from '#core/testing/cluster.pg.ts';
import { templateFor } from '#core/testing/template.pg.ts';

/** One dump for each master. */
export async function dumpSchemas(cluster: TestCluster): Promise<string[]> {
  const { installation, account } = await templateFor(18, 0);
  return Promise.all(
    cluster.masters.map(async ({ superUrl }) => {
      const flags = [
        '--schema-only',
        '--exclude-schema=pgquorum',
        '--restrict-key=x',
        `--dbname=${superUrl}`,
      ];
      const command = installation.command('pg_dump', flags, { account });
      const answer = await run(command.file, command.args, { env: serverEnvironment() });
      if (answer.code !== 0) throw new Error(`pg_dump: ${answer.stderr}`);
      return answer.stdout;
    }),
  );
}
