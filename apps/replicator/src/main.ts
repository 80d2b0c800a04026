/** Entry of the replicator. Compiled code is kept between starts; for that nothing else may be loaded before. */
import { enableCompileCache } from 'node:module';
import { setFlagsFromString } from 'node:v8';

enableCompileCache();
const { runProcess } = await import('./process.ts');

// Rows are garbage as soon as they are applied. Left alone, V8 lets 100 MB of them gather in its young generation before it looks
// (bench/large-transaction.bench.ts). Only now: what loading has made it grow to it keeps, and from its first megabyte on it would collect
// all the time, a fifth of the time of an edge.
setFlagsFromString('--max-semi-space-size=8');
setFlagsFromString('--semi-space-growth-factor=1');

runProcess();
