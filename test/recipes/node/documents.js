// What a search index would hold, in a file: a document for each aggregate, and
// the ids of the events that are in them.
const fs = require('fs');

class Documents {
  constructor(file) {
    this.file = file;
    this.isNew = !fs.existsSync(file);
    const saved = this.isNew ? { documents: {}, events: [], again: 0 }
      : JSON.parse(fs.readFileSync(file, 'utf8'));
    this.documents = saved.documents;
    this.seen = new Set(saved.events);
    this.again = saved.again;
  }

  // An event that is known by its id changes nothing.
  apply(event) {
    if (this.seen.has(event.id)) {
      this.again += 1;
      return;
    }
    this.seen.add(event.id);
    const key = [event.tenant, event.aggregatetype, event.aggregateid].join('/');
    const before = this.documents[key] ?? { versions: [] };
    this.documents[key] = {
      ...before,
      ...event.payload,
      tenant: event.tenant,
      id: event.aggregateid,
      type: event.type,
      versions: [...before.versions, Number(event.version)],
    };
  }

  // All that was applied is on disk, or nothing of it.
  save() {
    const aside = fs.openSync(`${this.file}.new`, 'w');
    fs.writeFileSync(aside, JSON.stringify({
      documents: this.documents, events: [...this.seen], again: this.again,
    }));
    fs.fsyncSync(aside);
    fs.closeSync(aside);
    fs.renameSync(`${this.file}.new`, this.file);
  }
}

module.exports = { Documents };
