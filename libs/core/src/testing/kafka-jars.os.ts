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

/** Kafka logs through SLF4J and brings no binding; without one a broker that cannot start would not say why. */
const pom = `<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>pgquorum.testing</groupId>
  <artifactId>kafka-distribution</artifactId>
  <version>1</version>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId>
      <artifactId>kafka_2.13</artifactId>
      <version>${kafkaVersion}</version>
    </dependency>
    <dependency>
      <groupId>org.apache.logging.log4j</groupId>
      <artifactId>log4j-slf4j-impl</artifactId>
      <version>${log4jVersion}</version>
    </dependency>
  </dependencies>
</project>
`;

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
export async function kafkaJars(): Promise<KafkaAvailability> {
  const folder = join(machineCacheDir(), `kafka-${kafkaVersion}`);
  const jars = join(folder, 'libs');
  mkdirSync(folder, { recursive: true, mode: 0o755 });
  const lock = await waitForLock(`${folder}.lock`, downloadMsMax);
  try {
    if (existsSync(jars)) return { kind: 'available', jars };
    writeFileSync(join(folder, 'pom.xml'), pom);
    const fresh = `${jars}.new`;
    rmSync(fresh, { recursive: true, force: true });
    const goal = ['dependency:copy-dependencies', '-DincludeScope=runtime', `-DoutputDirectory=${fresh}`];
    const maven = await run('mvn', ['-q', '-B', ...goal], { cwd: folder, timeoutMs: downloadMsMax });
    if (maven.code !== 0) return { kind: 'unavailable', reason: mavenProblem(maven) };
    renameSync(fresh, jars);
    return { kind: 'available', jars };
  } finally {
    lock.release();
  }
}

/** Maven explains itself on its standard output. */
function mavenProblem({ code, stdout, stderr }: RunResult): string {
  if (code === 127) return "Maven is needed to fetch Kafka's jars (Debian: apt-get install maven)";
  const explained = stdout.split('\n').find((line) => line.includes('ERROR')) ?? stderr.split('\n')[0];
  return `Maven could not fetch the jars of Kafka ${kafkaVersion}: ${explained}`;
}
