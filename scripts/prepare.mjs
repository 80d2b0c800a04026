/**
 * What has to be there before anything runs: the packages of package-lock.json, and dist/ built from the sources of now. Runs on the system's
 * Node (20 or newer) with nothing installed, so it is plain JavaScript without dependencies. Both checks cost some milliseconds when nothing is to do.
 */
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

export const projectRoot = dirname(dirname(fileURLToPath(import.meta.url)));
/** The Node that the product runs on: a dev dependency. */
export const projectNode = join(projectRoot, 'node_modules/.bin/node');
const builtFrom = join(projectRoot, 'dist/.built-from');

/** Runs a program in the project's folder with our terminal; answers its exit code. */
export function runHere(file, args, options = {}) {
  return new Promise((resolve) => {
    const child = spawn(file, args, { cwd: projectRoot, stdio: 'inherit', ...options });
    child.once('error', (cause) => {
      process.stderr.write(`${file}: ${cause.message}\n`);
      resolve(127);
    });
    child.once('close', (code, signal) => resolve(code ?? (signal === null ? 1 : 130)));
  });
}

/** Ends the process with a sentence when the Node that runs this is too old to go on. */
export function requireNode() {
  const [major] = process.versions.node.split('.').map(Number);
  if (major >= 20) return;
  process.stderr.write(
    `pgquorum needs Node 20 or newer to start; this is ${process.versions.node}. Install one from nodejs.org or your system's packages.\n`,
  );
  process.exit(1);
}

/** True when every package of package-lock.json is in node_modules in that version, going by npm's own record of what it installed. */
export function isInstalled() {
  const record = join(projectRoot, 'node_modules/.package-lock.json');
  if (!existsSync(record) || !existsSync(projectNode)) return false;
  const wanted = JSON.parse(readFileSync(join(projectRoot, 'package-lock.json'), 'utf8')).packages;
  const have = JSON.parse(readFileSync(record, 'utf8')).packages;
  return Object.entries(wanted).every(
    ([path, { version, optional }]) =>
      path === '' || have[path]?.version === version || (optional === true && have[path] === undefined),
  );
}

/** Ends the process with the exit code of npm when that fails. */
export async function installWhatIsMissing() {
  if (isInstalled()) return;
  process.stderr.write('installing packages (npm ci)\n');
  const args = ['ci', '--include=dev', '--prefer-offline', '--no-audit', '--no-fund', '--loglevel=error'];
  const npmScript = process.env.npm_execpath;
  const viaNode = npmScript !== undefined && /npm-cli\.c?js$/.test(npmScript) && existsSync(npmScript);
  const code = viaNode
    ? await runHere(process.execPath, [npmScript, ...args], { stdio: ['ignore', 2, 2] })
    : await runHere('npm', args, { stdio: ['ignore', 2, 2] });
  if (code === 0) return;
  process.stderr.write('the packages could not be installed: npm ci failed, see above\n');
  process.exit(code);
}

/** For commands of developers: says what to do instead of doing it. */
export function requireInstalled() {
  requireNode();
  if (isInstalled()) return;
  process.stderr.write(
    'the packages are not installed, or not those of package-lock.json: run npm ci first\n',
  );
  process.exit(1);
}

/** Compiles and bundles, without type checking, when a source, or the compiler's settings, changed since the last time. Ends the process when that fails. */
export async function buildWhatIsOld() {
  const sources = ['apps', 'libs', 'bench']
    .flatMap((folder) => filesBelow(join(projectRoot, folder)))
    .filter((file) => file.endsWith('.ts') && !file.endsWith('.test.ts'));
  const settings = [
    'tsconfig.json',
    'tsconfig.build.json',
    'scripts/bundle.mjs',
    'package-lock.json',
    'node_modules/typescript/package.json',
  ].map((file) => join(projectRoot, file));
  const state = createHash('sha256');
  for (const file of [...sources, ...settings].sort((a, b) => (a < b ? -1 : 1))) {
    const { size, mtimeMs } = statSync(file);
    state.update(`${relative(projectRoot, file)} ${size} ${mtimeMs}\n`);
  }
  const fingerprint = state.digest('hex');
  if (existsSync(builtFrom) && readFileSync(builtFrom, 'utf8') === fingerprint) return;
  process.stderr.write('building\n');
  await buildStep('node_modules/typescript/bin/tsc', '-p', 'tsconfig.build.json', '--noCheck');
  await buildStep('scripts/bundle.mjs');
  removeOrphans(new Set(sources.map((file) => relative(projectRoot, file).replace(/\.ts$/, ''))));
  mkdirSync(dirname(builtFrom), { recursive: true });
  writeFileSync(builtFrom, fingerprint);
}

async function buildStep(...args) {
  const code = await runHere(projectNode, args, { stdio: ['ignore', 2, 2] });
  if (code === 0) return;
  process.stderr.write('the build failed, see above\n');
  process.exit(code);
}

/** What was compiled from a source that is gone would still be found by imports. */
function removeOrphans(kept) {
  const dist = join(projectRoot, 'dist');
  for (const file of filesBelow(dist)) {
    const source = relative(dist, file).replace(/\.(js|js\.map|d\.ts)$/, '');
    if (/\.(js|map)$/.test(file) && !kept.has(source)) rmSync(file);
  }
}

function filesBelow(folder) {
  if (!existsSync(folder)) return [];
  return readdirSync(folder, { withFileTypes: true }).flatMap((item) => {
    const path = join(folder, item.name);
    if (item.isDirectory()) return item.name === 'node_modules' ? [] : filesBelow(path);
    return item.isFile() ? [path] : [];
  });
}
