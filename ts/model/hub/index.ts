export { chooseFiles, type FileChoice } from './choose-files.ts';
export { type Pulled, type PullOptions, pullModel } from './pull.ts';
export { type Pushed, type PushOptions, pushModel } from './push.ts';
export { type HubSettings, hubSettings, parseRepository, type Repository } from './settings.ts';
