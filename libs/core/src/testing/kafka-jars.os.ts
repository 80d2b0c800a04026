/**
 * Apache Kafka's own jars, fetched once from Maven Central by Maven itself (which verifies them) and kept in the cache folder.
 */
import { existsSync, mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { machineCacheDir } from '../embedded/find-postgres.os.ts';
import { waitForLock } from '../embedded/lock.os.ts';
import { run, type RunResult } from '../embedded/process.os.ts';

export const kafkaVersion = '4.1.0';
const log4jVersion = '2.24.3';
const downloadMsMax = 300_000;

interface Artifact {
  readonly group: string;
  readonly name: string;
  readonly version: string;
}

const pomOf = (artifacts: readonly Artifact[]): string => `<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>pgquorum.testing</groupId>
  <artifactId>jars</artifactId>
  <version>1</version>
  <dependencies>
${artifacts
  .map(
    ({ group, name, version }) =>
      `    <dependency><groupId>${group}</groupId><artifactId>${name}</artifactId><version>${version}</version></dependency>`,
  )
  .join('\n')}
  </dependencies>
</project>
`;

/** Kafka logs through SLF4J and brings no binding; without one a broker that cannot start would not say why. */
const logging: Artifact = {
  group: 'org.apache.logging.log4j',
  name: 'log4j-slf4j-impl',
  version: log4jVersion,
};

const kafkaArtifacts: readonly Artifact[] = [
  { group: 'org.apache.kafka', name: 'kafka_2.13', version: kafkaVersion },
  logging,
];

/** Kafka Connect with its sink into files, and what Debezium's consumers are made of. */
const debeziumVersion = '3.2.0.Final';
const connectArtifacts: readonly Artifact[] = [
  { group: 'org.apache.kafka', name: 'connect-runtime', version: kafkaVersion },
  { group: 'org.apache.kafka', name: 'connect-file', version: kafkaVersion },
  { group: 'io.debezium', name: 'debezium-core', version: debeziumVersion },
  logging,
];

/** Debezium as it is run beside a Postgres, newer than the classes above: these only read what it would write. */
const connectorVersion = '3.5.0.Final';
const connectorArtifacts: readonly Artifact[] = [
  { group: 'org.apache.kafka', name: 'connect-runtime', version: kafkaVersion },
  { group: 'io.debezium', name: 'debezium-connector-postgres', version: connectorVersion },
  logging,
];
export const connectorName = `Debezium ${connectorVersion} on Kafka Connect ${kafkaVersion}`;

export type KafkaAvailability = { kind: 'available'; jars: string } | { kind: 'unavailable'; reason: string };

let known: Promise<KafkaAvailability> | undefined;

/** The folder of the jars, downloaded on first use; or why a broker cannot be had on this machine. */
export function kafkaAvailable(): Promise<KafkaAvailability> {
  known ??= findKafka();
  return known;
}

async function findKafka(): Promise<KafkaAvailability> {
  const java = await javaProblem();
  return java === undefined ? kafkaJars() : { kind: 'unavailable', reason: java };
}

/** Kafka 4 needs Java 17. */
async function javaProblem(): Promise<string | undefined> {
  const { code, stderr } = await run('java', ['-version']);
  if (code !== 0) return 'Kafka needs Java 17 or newer (Debian: apt-get install openjdk-17-jre-headless)';
  const major = Number(/version "(\d+)/.exec(stderr)?.[1]);
  return major >= 17
    ? undefined
    : `Kafka ${kafkaVersion} needs Java 17 or newer, and this is ${stderr.split('\n')[0]}`;
}

/** The jars alone: an image that brings its own Java can be made without one here that is new enough. */
export const kafkaJars = (): Promise<KafkaAvailability> => mavenJars(`kafka-${kafkaVersion}`, kafkaArtifacts);

/** Kafka Connect and Debezium's classes, downloaded on first use; or why they cannot be had. */
export async function connectAvailable(): Promise<KafkaAvailability> {
  const java = await javaProblem();
  return java === undefined
    ? mavenJars(`connect-${kafkaVersion}-debezium-${debeziumVersion}`, connectArtifacts)
    : { kind: 'unavailable', reason: java };
}

/** Kafka Connect with Debezium's connector for Postgres. Whoever runs it brings its Java. */
export const connectorJars = (): Promise<KafkaAvailability> =>
  mavenJars(`connect-${kafkaVersion}-debezium-postgres-${connectorVersion}`, connectorArtifacts);

async function mavenJars(name: string, artifacts: readonly Artifact[]): Promise<KafkaAvailability> {
  const folder = join(machineCacheDir(), name);
  const jars = join(folder, 'libs');
  mkdirSync(folder, { recursive: true, mode: 0o755 });
  const lock = await waitForLock(`${folder}.lock`, downloadMsMax);
  try {
    if (existsSync(jars)) return { kind: 'available', jars };
    writeFileSync(join(folder, 'pom.xml'), pomOf(artifacts));
    const fresh = `${jars}.new`;
    rmSync(fresh, { recursive: true, force: true });
    const goal = ['dependency:copy-dependencies', '-DincludeScope=runtime', `-DoutputDirectory=${fresh}`];
    const maven = await run('mvn', ['-q', '-B', ...goal], { cwd: folder, timeoutMs: downloadMsMax });
    if (maven.code !== 0) return { kind: 'unavailable', reason: mavenProblem(maven, name) };
    renameSync(fresh, jars);
    return { kind: 'available', jars };
  } finally {
    lock.release();
  }
}

/** Maven explains itself on its standard output. */
function mavenProblem({ code, stdout, stderr }: RunResult, name: string): string {
  if (code === 127) return `Maven is needed to fetch the jars of ${name} (Debian: apt-get install maven)`;
  const explained = stdout.split('\n').find((line) => line.includes('ERROR')) ?? stderr.split('\n')[0];
  return `Maven could not fetch the jars of ${name}: ${explained}`;
}
