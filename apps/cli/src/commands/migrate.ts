import { connect } from '#core/postgres/connect.pg.ts';
import { migrate } from '#core/postgres/migrate.pg.ts';
import { refuseArguments, type Command } from '../command.ts';
import { nodesOf } from '../node-list.ts';
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
