/** Refuses a collection whose resolver is not there: a function on every node, a module in this process's folder. */
import type { DefinitionCheck } from '../collections/catalog.pg.ts';
import { PgquorumError } from '../errors/error.ts';
import { readFunction } from './resolver-function.pg.ts';
import { readModule } from './resolver-modules.process.ts';
import { parseResolverName } from './resolver.ts';

export const resolverCheck =
  (folder: string | undefined): DefinitionCheck =>
  async (client, { conflicts }) => {
    if (conflicts.resolver === undefined) return;
    const name = parseResolverName(conflicts.resolver);
    const found =
      name.kind === 'module' ? await readModule(folder, name.file) : await readFunction(client, name);
    if ('missing' in found) throw new PgquorumError('resolver_missing', found.missing);
  };
