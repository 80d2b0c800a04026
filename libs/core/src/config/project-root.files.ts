/** Where the files are that are read at run time: migrations, .proto files, the dashboard. The same from source and from dist. */
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

function findRoot(): string {
  let folder = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(folder, 'package.json')) || !existsSync(join(folder, 'migrations'))) {
    const parent = dirname(folder);
    if (parent === folder)
      throw new Error('the folder of pgquorum (package.json and migrations) was not found');
    folder = parent;
  }
  return folder;
}

export const projectRoot = findRoot();
