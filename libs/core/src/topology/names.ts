/** Names of server-wide objects: they carry the cluster, since several clusters may live on one server. Pure. */
import type { NodeNumber } from '../versioning/version.ts';

export const publicationName = 'pgquorum';

const forSlot = (cluster: string): string => cluster.replaceAll('-', '_');

/** How the names of all slots of a cluster begin. */
export const slotPrefix = (cluster: string): string => `pgquorum_${forSlot(cluster)}_`;

/** The slot on `origin` that `target` reads. */
export const edgeSlot = (cluster: string, origin: NodeNumber, target: NodeNumber): string =>
  `${slotPrefix(cluster)}${origin}_${target}`;

/** The slot on `origin` that feeds its topic. */
export const logSlot = (cluster: string, origin: NodeNumber): string => `${slotPrefix(cluster)}${origin}_log`;

/** The slot on `origin` that keeps changes for those who follow them (changes/anchor.pg.ts). */
export const anchorSlot = (cluster: string, origin: NodeNumber): string =>
  `${slotPrefix(cluster)}${origin}_changes`;

/** A temporary slot of one reading; `suffix` is in hex. At most 63 characters, whatever the cluster's name. */
export const followSlot = (cluster: string, origin: NodeNumber, suffix: string): string =>
  `${slotPrefix(cluster)}${origin}_f_${suffix}`;

export const topicName = (cluster: string, originName: string): string => `pgquorum.${cluster}.${originName}`;

/** The topic of a format for others, beside the one that the masters read. Names of nodes have no dots. */
export const formatTopicName = (cluster: string, originName: string, format: string): string =>
  `${topicName(cluster, originName)}.${format}`;

export type LogKind = 'wal' | 'kafka';
