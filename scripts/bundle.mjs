#!/usr/bin/env node
/**
 * Makes one file of each application that runs as a process of its own, in the place of its compiled entry: loading some hundred modules took most of a
 * start, 1 s of processor time where the one file takes 0.4. Runs after the compiler, which writes the entry anew and unbundled: what was only compiled
 * works too, and a bundle is never older than what it was made from.
 */
import { readFile } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const entries = ['gateway', 'replicator'].map((app) => join(root, 'dist/apps', app, 'src/process.js'));
/** Native code, and kafkajs, whose inside is reached by its files' paths. */
const apart = ['@node-rs/crc32', 'lz4-napi', 'snappy', 'kafkajs'];

/** Packages load others only if they are installed, and name more than we have: those stay imports, which fail when they are asked for, as ever. */
const notInstalled = {
  name: 'not-installed',
  setup({ onResolve, resolve }) {
    onResolve({ filter: /^[^./#]/ }, async ({ path, pluginData, importer, ...where }) => {
      if (pluginData === 'asked' || path.startsWith('node:')) return undefined;
      const { kind, namespace, resolveDir } = where;
      const found = await resolve(path, { importer, kind, namespace, resolveDir, pluginData: 'asked' });
      return found.errors.length > 0 ? { path, external: true } : found;
    });
  },
};

/** Files that a package reads beside its code stay where they are. */
const filesBeside = (folder) => ({
  name: 'files-beside',
  setup({ onLoad }) {
    onLoad({ filter: /[\\/]node_modules[\\/].*\.c?js$/ }, async ({ path }) => {
      const text = await readFile(path, 'utf8');
      if (!/\b__(dirname|filename)\b/.test(text)) return undefined;
      const at = (file) => `__beside(${JSON.stringify(relative(folder, file))})`;
      const contents = text
        .replaceAll(/\b__dirname\b/g, at(dirname(path)))
        .replaceAll(/\b__filename\b/g, at(path));
      return { contents, loader: 'js' };
    });
  },
});

/** What CommonJS expects of its surroundings. */
const surroundings = `import { createRequire as __createRequire } from 'node:module';
import { join as __join } from 'node:path';
const require = __createRequire(import.meta.url);
const __beside = (path) => __join(import.meta.dirname, path);`;

for (const entry of entries)
  await build({
    entryPoints: [entry],
    outfile: entry,
    allowOverwrite: true,
    bundle: true,
    platform: 'node',
    format: 'esm',
    target: 'node22',
    // Names of functions are not kept: that gives one to each closure whenever it is made, a twentieth of a replicator's time. What logs and Nest show of classes is theirs, or theirs with a number.
    sourcemap: 'linked',
    sourcesContent: false,
    legalComments: 'eof',
    external: apart,
    plugins: [notInstalled, filesBeside(dirname(entry))],
    banner: { js: surroundings },
    logLevel: 'warning',
  });
