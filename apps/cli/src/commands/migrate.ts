import { existsSync, readFileSync } from 'node:fs';
import type { NodeAddress, Settings } from '#core/config/settings.ts';
import { dataFolderPaths } from '#core/embedded/data-folder.os.ts';
import { PgquorumError } from '#core/errors/error.ts';
import { connect } from '#core/postgres/connect.pg.ts';
import { migrate } from '#core/postgres/migrate.pg.ts';
import { refuseArguments, type Command } from '../command.ts';
import { readSettings } from '../settings.ts';

export const migrateNodes: Command = {
  name: 'migrate',
  about: 'brings the schema pgquorum of every node to the newest version (a start does this by itself)',
  usage: '',
  async run(args) {
    const refused = refuseArguments('migrate', args);
    if (refused !== undefined) return refused;
    for (const node of nodesOf(readSettings())) {
      const client = await connect(node, { application: 'pgquorum migrate' });
      try {
        const applied = await migrate(client);
        process.stdout.write(
          `${node.name}: ${applied.length === 0 ? 'up to date' : `applied ${applied.join(', ')}`}\n`,
        );
      } finally {
        await client.end();
      }
    }
    return 0;
  },
};

/** The nodes that the settings name, or those of the embedded cluster that is running. */
function nodesOf(settings: Settings): readonly NodeAddress[] {
  if (settings.nodes !== undefined) return settings.nodes;
  const { clusterFile } = dataFolderPaths(settings.dataDir);
  if (!existsSync(clusterFile))
    throw new PgquorumError(
      'settings_invalid',
      'PGQUORUM_NODES is not set and no embedded cluster is running: start one with npm start',
    );
  const { nodes } = JSON.parse(readFileSync(clusterFile, 'utf8')) as { nodes: Omit<NodeAddress, 'weight'>[] };
  return nodes.map((node) => ({ ...node, weight: 1 }));
}
