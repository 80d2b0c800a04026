/** Pages of docs/ that are made from tables of the code. `PGQUORUM_TEST_WRITE_DOCS=1` writes them anew. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from '@jest/globals';
import { settingsDocument } from '#core/config/document.ts';
import { projectRoot } from '#core/config/project-root.files.ts';
import { errorsDocument } from '#core/errors/document.ts';

test.each([
  ['docs/errors.md', errorsDocument],
  ['docs/settings.md', settingsDocument],
])('%s says what the code says', (file, make) => {
  const path = join(projectRoot, file);
  if (process.env['PGQUORUM_TEST_WRITE_DOCS'] === '1') writeFileSync(path, make());
  expect(readFileSync(path, 'utf8')).toBe(make());
});
