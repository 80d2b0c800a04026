/** The migrated schema, as SQL, in one file: a change of the schema is read as a diff. `npm run db:dump > test/schema.sql` writes it anew. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from '@jest/globals';
import { projectRoot } from '#core/config/project-root.files.ts';
import { dumpMigratedSchema } from '../apps/cli/src/commands/dump-schema.ts';

test('test/schema.sql is the dump of the migrated schema', async () => {
  expect(await dumpMigratedSchema()).toBe(readFileSync(join(projectRoot, 'test/schema.sql'), 'utf8'));
}, 120_000);
