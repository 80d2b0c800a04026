#!/usr/bin/env node
/** `npm start`: installs and builds what is missing, then runs `pgquorum up` in the foreground. */
import { buildWhatIsOld, installWhatIsMissing, projectRoot, requireNode } from './prepare.mjs';
import { runPgquorum } from './run.mjs';

requireNode();
await installWhatIsMissing();
await buildWhatIsOld();
await runPgquorum(['up', ...process.argv.slice(2)], { cwd: projectRoot });
