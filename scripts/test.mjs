#!/usr/bin/env node
/**
 * `npm test [suite…] [-- jest arguments]`: installs and builds what is missing, then runs all suites, or those that are named. What
 * this machine cannot run is left out and said, with the reason. `--long` runs the long forms. The last line is the sum of all.
 *
 * A file whose servers were too slow beside another file's is run once more, by itself, and named as unsteady when it passes then: never more
 * than three of them, and never one that looks for lost or diverging data in a random history, since there a single failure counts.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import {
  buildWhatIsOld,
  installWhatIsMissing,
  projectNode,
  projectRoot,
  requireNode,
  runHere,
} from './prepare.mjs';

/** In the order in which they run: what fails fast comes first. Patterns of paths below the project's folder. */
const suites = {
  unit: ['(libs|apps)/'],
  tidy: ['test/[^/]+$'],
  contract: ['test/contract/'],
  integration: ['test/integration/(?!mixed\\.)'],
  // Everything at once on four masters, which takes both cores for itself.
  mixed: ['test/integration/mixed\\.test\\.ts$'],
  simulation: ['test/simulation/'],
  scenarios: ['test/scenarios/'],
  containers: ['test/containers/'],
  // Again, with random pauses before all that is sent to a server: the long form runs all of test/integration so.
  delayed: ['test/integration/(capture-reread|apply-batches|apply-commit|feed)\\.test\\.ts$'],
};

/** Suites that run real servers side by side, in one run of Jest, so that no worker idles at the end of each. Three at once took servers the time they need. */
const timed = ['contract', 'integration', 'simulation', 'scenarios', 'containers'];
/** Suites of timed files that run by themselves. */
const apart = ['mixed', 'delayed'];
const workersMax = 2;
/** Of them those that mostly wait, for images, packages or the time to pass: one after the other beside the rest. None needs the brokers that the others share. */
const waiting =
  'test/(containers/|integration/(foreign-clients|shard-membership|verify-continuous|folding|ddl)\\.)';
/** Files of random histories: what fails once has failed. */
const once = /convergence|\/mixed\.test|simulation|single-writer|trigger-model|\/crdt\.test|\.property\./;
const unsteadyMax = 3;

const [suiteArguments, jestArguments] = splitAt(process.argv.slice(2), '--');
const long = suiteArguments.includes('--long');
if (long) suites.delayed = suites.integration;
const chosen = suiteArguments.filter((argument) => argument !== '--long');
const unknown = chosen.filter((name) => !(name in suites));
if (unknown.length > 0) {
  process.stderr.write(
    `there is no suite ${unknown.join(', ')}; there are ${Object.keys(suites).join(', ')}\n`,
  );
  process.exit(2);
}

requireNode();
await installWhatIsMissing();
await buildWhatIsOld();

const toRun = chosen.length > 0 ? chosen : Object.keys(suites);
const left = whatToLeaveOut();
const here = toRun.filter((name) => !left.has(name));
const results = mkdtempSync(join(tmpdir(), 'pgquorum-results-'));
const sum = { passed: 0, failed: 0, skipped: 0 };
const skippedTests = [];
const unsteady = [];
try {
  for (const name of here.filter((one) => !timed.includes(one) && !apart.includes(one)))
    addUp(await runSuites([name]));
  addUp(await runSuites(here.filter((one) => timed.includes(one))));
  for (const name of here.filter((one) => apart.includes(one))) addUp(await runSuites([name]));
} finally {
  rmSync(results, { recursive: true, force: true });
}
report();
process.exitCode = sum.failed > 0 ? 1 : 0;

function splitAt(list, mark) {
  const at = list.indexOf(mark);
  return at < 0 ? [list, []] : [list.slice(0, at), list.slice(at + 1)];
}

/** Suites that need what a machine may not have, with the reason why this one has it not. Those the caller named in PGQUORUM_TEST_SKIP stay out too. */
function whatToLeaveOut() {
  const named = (process.env.PGQUORUM_TEST_SKIP ?? '').split(/[\s,]+/).filter(Boolean);
  const reasons = new Map(named.map((name) => [name, 'PGQUORUM_TEST_SKIP names it']));
  const docker = dockerProblem();
  if (docker !== undefined && !reasons.has('containers')) reasons.set('containers', docker);
  const kafka = kafkaProblem();
  if (kafka !== undefined && !reasons.has('kafka')) reasons.set('kafka', kafka);
  return reasons;
}

function dockerProblem() {
  const answer = spawnSync('docker', ['version', '--format', '{{.Server.Version}}'], {
    encoding: 'utf8',
    timeout: 15_000,
  });
  if (answer.error?.code === 'ENOENT') return 'Docker is not installed (Debian: apt-get install docker.io)';
  return answer.status === 0 ? undefined : 'no Docker daemon answers';
}

function kafkaProblem() {
  const java = spawnSync('java', ['-version'], { encoding: 'utf8' });
  const major = Number(/version "(\d+)/.exec(java.stderr ?? '')?.[1] ?? 0);
  if (java.status !== 0 || major < 17)
    return 'Kafka needs Java 17 or newer (Debian: apt-get install openjdk-17-jre-headless)';
  if (existsSync(process.env.PGQUORUM_TEST_KAFKA_LIBS ?? '')) return undefined;
  const maven = spawnSync('mvn', ['--version'], { encoding: 'utf8' });
  return maven.status === 0
    ? undefined
    : "Kafka's jars come through Maven (Debian: apt-get install maven), or name a folder of them in PGQUORUM_TEST_KAFKA_LIBS";
}

/** The results of the files of suites that run together: those of the second run where a file was run again. */
async function runSuites(names) {
  if (names.length === 0) return [];
  const areTimed = timed.includes(names[0]) || apart.includes(names[0]);
  const title = names.join('-');
  process.stderr.write(`\n=== ${names.join(', ')}\n`);
  const root = projectRoot.replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&');
  const patterns = names.flatMap((name) => suites[name]).map((one) => `^${root}/${one}`);
  const run = (which, workers, ignored) =>
    runJest(`${title}${which}`, [
      `--maxWorkers=${workers}`,
      '--testPathIgnorePatterns',
      '/node_modules/',
      ignored,
      '--testPathPatterns',
      ...patterns,
    ]);
  const runs = [run('', workersMax, `^${root}/${waiting}`)];
  if (timed.includes(names[0])) runs.push(run('-waiting', 1, `^(?!${root}/${waiting})`));
  const files = (await Promise.all(runs)).flat();
  const failed = files.filter(({ failures }) => failures > 0);
  if (!areTimed || failed.length > unsteadyMax || failed.some(({ path }) => once.test(path))) return files;
  const again = [];
  for (const { path } of failed) {
    process.stderr.write(`\n=== ${path} once more, by itself\n`);
    again.push(...(await runJest(`${title}-again`, ['--runTestsByPath', path])));
  }
  const steadied = again.filter(({ failures, passed }) => failures === 0 && passed > 0);
  unsteady.push(...steadied.map(({ path }) => path));
  return files.map((file) => steadied.find(({ path }) => path === file.path) ?? file);
}

/** Replayed by PGQUORUM_TEST_SEED, as far as the order in which servers answer is the same. */
function delays() {
  const seed = process.env.PGQUORUM_TEST_SEED ?? String(Math.floor(Math.random() * 2 ** 31));
  process.stderr.write(`delays: PGQUORUM_TEST_SEED=${seed}\n`);
  return { PGQUORUM_TEST_FAULTS: 'on', PGQUORUM_TEST_DELAYS: seed };
}

async function runJest(name, selection) {
  const output = join(results, `${name}.json`);
  rmSync(output, { force: true });
  const flags = [
    '--experimental-vm-modules',
    '--disable-warning=ExperimentalWarning',
    'node_modules/jest/bin/jest.js',
  ];
  const jest = [
    '--passWithNoTests',
    '--testSequencer=./scripts/longest-first.mjs',
    '--json',
    `--outputFile=${output}`,
    ...jestArguments,
    ...selection,
  ];
  const env = {
    ...process.env,
    PGQUORUM_TEST_SKIP: [...left.keys()].join(','),
    ...(long ? { PGQUORUM_TEST_LONG: '1' } : {}),
    ...(name.startsWith('delayed') ? delays() : {}),
  };
  const code = await runHere(projectNode, [...flags, ...jest], { env, stdio: ['ignore', 2, 2] });
  return resultsOf(name, output, code);
}

/** A file that cannot even be loaded has no failed tests, and a run that was killed has no results: each counts as one failure. */
function resultsOf(name, output, code) {
  const broken = { path: name, passed: 0, failures: 1, skipped: [] };
  if (!existsSync(output)) {
    process.stderr.write(`${name}: jest ended with code ${code} and left no results\n`);
    return [broken];
  }
  const files = JSON.parse(readFileSync(output, 'utf8')).testResults.map((file) => {
    const path = relative(projectRoot, file.name);
    const count = (...kinds) => file.assertionResults.filter(({ status }) => kinds.includes(status));
    const failed = count('failed').length;
    return {
      path,
      passed: count('passed').length,
      failures: file.status === 'failed' ? Math.max(failed, 1) : failed,
      skipped: count('pending', 'todo').map(({ fullName }) => `${path}: ${fullName}`),
    };
  });
  return code === 0 || files.some(({ failures }) => failures > 0) ? files : [...files, broken];
}

function addUp(files) {
  for (const { passed, failures, skipped } of files) {
    sum.passed += passed;
    sum.failed += failures;
    sum.skipped += skipped.length;
    skippedTests.push(...skipped);
  }
}

function report() {
  const out = (line) => process.stdout.write(`${line}\n`);
  out('');
  for (const [name, reason] of left)
    if (!(name in suites) || toRun.includes(name)) out(`left out: ${name}, because ${reason}`);
  for (const one of skippedTests) out(`skipped: ${one}`);
  for (const path of unsteady) out(`unsteady: ${path} failed beside others and passed by itself`);
  out(`${sum.passed} passed, ${sum.failed} failed, ${sum.skipped} skipped`);
}
