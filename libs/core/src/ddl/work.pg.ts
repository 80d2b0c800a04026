/** The job `ddl`: one statement on the table of one collection, on all masters. */
import { readCollection } from '../collections/catalog.pg.ts';
import { PgquorumError } from '../errors/error.ts';
import type { JobWork } from '../jobs/job.ts';
import { alterOnAll } from './alter.pg.ts';
import { checkDdl, fullName } from './check.pg.ts';
import { createIndexOnAll, dropIndexOnAll } from './index.pg.ts';
import { withNodes } from './nodes.pg.ts';
import { alterSql, parseDdl } from './statement.ts';

export const ddlJob = 'ddl';

export interface DdlArguments {
  readonly collection: string;
  readonly statement: string;
}

export const ddlWork: JobWork = async (job, { nodes }) => {
  const { collection: name, statement: asked } = job.arguments as DdlArguments;
  return withNodes(nodes, job.signal, async (place) => {
    const { open } = place;
    const statement = parseDdl(asked);
    const collection = await readCollection(open[0]!.client, name);
    if (collection === null) throw new PgquorumError('collection_not_found', `collection ${name}`);
    switch (statement.kind) {
      case 'alter': {
        const begun = await Promise.all(
          open.map(({ client }) => client.query('select from pgquorum.ddl where job = $1', [job.id])),
        );
        // The table may have changed since it was asked for; once it stands anywhere it is finished.
        if (begun.every(({ rowCount }) => rowCount === 0))
          for (const { client } of open) await checkDdl(client, { collection: name, statement: asked });
        const table = fullName(collection);
        await alterOnAll(place, {
          job,
          collection: name,
          asked,
          statement: alterSql(statement, table),
          table,
          additive: statement.additive,
        });
        break;
      }
      case 'create-index':
        await createIndexOnAll(open, { job, collection, statement });
        break;
      case 'drop-index':
        await dropIndexOnAll(open, { job, collection, index: statement.index.name });
    }
    return { collection: name, statement: asked, nodes: open.map(({ name: node }) => node) };
  });
};

const keptMs = 90 * 86_400_000;

/** The history of a quarter is kept: a job is repeated for an hour at most. */
export async function forgetDdl(client: {
  query(text: string, values: unknown[]): Promise<{ rowCount: number | null }>;
}): Promise<number> {
  const gone = await client.query(
    `delete from pgquorum.ddl where at < clock_timestamp() - $1 * interval '1 millisecond'`,
    [keptMs],
  );
  return gone.rowCount ?? 0;
}
