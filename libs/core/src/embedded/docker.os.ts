/** Postgres from a Docker image. The programs of the image run on folders of this machine, so a master is kept, stopped and repaired as any other. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Installation } from './installation.os.ts';
import { run } from './process.os.ts';

/** The image as an installation, or the reason why it cannot be used. */
export async function dockerInstallation(
  image: string,
  say: (line: string) => void,
): Promise<Installation | string> {
  const daemon = await run('docker', ['version', '--format', '{{.Server.Version}}'], { timeoutMs: 10_000 });
  if (daemon.code === 127) return 'docker is not installed';
  if (daemon.code !== 0) return 'no Docker daemon answers';
  if ((await run('docker', ['image', 'inspect', image])).code !== 0) {
    say(`pulling the image ${image}`);
    const pull = await run('docker', ['pull', image], { showOutput: true });
    if (pull.code !== 0) return `the image ${image} cannot be pulled`;
  }
  const probe = await run('docker', [
    'run',
    '--rm',
    '--entrypoint',
    'sh',
    image,
    '-c',
    programFolder + versionAndVector,
  ]);
  const version = /\(PostgreSQL\) (\d+)(\S*)/.exec(probe.stdout);
  if (version === null) return `the image ${image} holds no Postgres: ${probe.stderr.trim().split('\n')[0]}`;
  if (!probe.stdout.includes('has vector')) return `the image ${image} has no pgvector`;
  return {
    source: `the Docker image ${image}`,
    major: Number(version[1]),
    version: `${version[1]}${version[2]}`,
    listenAddress: '*',
    folder: undefined,
    removeLeftover: async (name) => {
      await run('docker', ['stop', '--time', '30', name]);
      await run('docker', ['rm', '--force', name]);
    },
    command: (program, args, needs = {}) => {
      const user = needs.account ?? { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 };
      const mounts = [
        ...(needs.paths ?? []).flatMap((path) => ['-v', `${path}:${path}`]),
        '-v',
        `${passwdFile(user)}:/etc/passwd:ro`,
      ];
      const port = needs.port === undefined ? [] : ['-p', `127.0.0.1:${needs.port}:${needs.port}`];
      const name = needs.name === undefined ? [] : ['--name', needs.name];
      const limits = [
        '--rm',
        '--init',
        ...name,
        '--shm-size',
        '1g',
        '--user',
        `${user.uid}:${user.gid}`,
        '-e',
        'LC_ALL=C',
      ];
      return {
        file: 'docker',
        args: [
          'run',
          ...limits,
          ...mounts,
          ...port,
          '--entrypoint',
          'sh',
          image,
          '-c',
          `${programFolder}exec "$d/$0" "$@"`,
          program,
          ...args,
        ],
      };
    },
  };
}

/** Debian's images keep the programs out of the PATH of a plain `sh`. */
const programFolder =
  'd=$(dirname "$(command -v postgres || ls /usr/lib/postgresql/*/bin/postgres | tail -n 1)"); ';
const versionAndVector =
  '"$d/postgres" --version; for s in "$("$d/pg_config" --sharedir 2>/dev/null)" /usr/share/postgresql/*; do [ -e "$s/extension/vector.control" ] && echo has vector && break; done; true';

const passwdFiles = new Map<number, string>();

/** initdb insists that its user has a name, so the container gets a list of users that names ours. */
function passwdFile(user: { uid: number; gid: number }): string {
  const known = passwdFiles.get(user.uid);
  if (known !== undefined) return known;
  const folder = mkdtempSync(join(tmpdir(), 'pgquorum-passwd-'));
  const made = join(folder, 'passwd');
  passwdFiles.set(user.uid, made);
  writeFileSync(
    made,
    `root:x:0:0:root:/root:/bin/sh\n${user.uid === 0 ? '' : `postgres:x:${user.uid}:${user.gid}::/tmp:/bin/sh\n`}`,
    { mode: 0o644 },
  );
  process.once('exit', () => rmSync(folder, { recursive: true, force: true }));
  return made;
}
