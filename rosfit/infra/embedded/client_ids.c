/* A plugin for Mosquitto 2: refuses a client id that names another device or one of the server's own sessions, and
 * a place in the server's shared subscription; and keeps the broker from falling over sessions that are offline while it
 * reads its accounts again.
 *
 * Mosquitto itself cannot: whoever is let in may take any client id, and by that end the session of another
 * and drop its queue. It grants every subscription and judges at delivery, too late for a shared one: the device
 * has been dealt what it may not read, and nobody else gets it. Everything else (passwords, topics) stays with Mosquitto: the plugin defers to it.
 *
 * plugin_opt_devices names a file with one device id in each line, sorted by byte; it is read again on SIGHUP.
 * A user name is a device id, or a device id, a dot and more. Names that begin with an underscore are the server's.
 * On SIGHUP Mosquitto 2.0 judges the passwords of offline sessions too. One that fails (its password has changed, or it
 * was read back from disk, which keeps none) is disconnected a second time, stands in the list of expiring sessions
 * twice, and is used after it is freed: the broker crashes. Nobody is connected there, so the plugin lets it pass;
 * whoever comes back to that session is judged as anybody else.
 *
 * No header is included, so that any C compiler builds it on a machine without development packages.
 */

typedef unsigned long size_t;
struct mosquitto;
struct plugin_id;

struct option {
    char *key;
    char *value;
};

struct basic_auth_event {
    void *future;
    struct mosquitto *client;
    char *username;
    char *password;
    void *future2[4];
};

struct acl_check_event {
    void *future;
    struct mosquitto *client;
    const char *topic;
    const void *payload;
    void *properties;
    int access;
    unsigned int payload_length;
    unsigned char qos;
    unsigned char retain;
    void *future2[4];
};

enum { SUCCESS = 0, NOT_AUTHORISED = 11, ACL_DENIED = 12, DEFER = 17, FAILED = 1 };
enum { ON_RELOAD = 1, ON_ACL_CHECK = 2, ON_BASIC_AUTH = 3 };
enum { SUBSCRIBE = 4 };
enum { PLUGIN_API = 5, LONGEST_ID = 64, NO_SOCKET = -1 };

typedef int (*callback)(int event, void *data, void *userdata);
int mosquitto_callback_register(struct plugin_id *id, int event, callback cb, const void *data, void *userdata);
const char *mosquitto_client_id(const struct mosquitto *client);
const char *mosquitto_client_address(const struct mosquitto *client);
const char *mosquitto_client_username(const struct mosquitto *client);

void *fopen(const char *path, const char *mode);
int fclose(void *file);
char *fgets(char *line, int size, void *file);
void *bsearch(const void *key, const void *base, size_t count, size_t size, int (*compare)(const void *, const void *));
void *realloc(void *block, size_t size);
char *strdup(const char *text);
char *strchr(const char *text, int letter);
int strcmp(const char *one, const char *other);
int strncmp(const char *one, const char *other, size_t length);
size_t strlen(const char *text);
void *memset(void *block, int value, size_t size);

static const char SERVER_PREFIX[] = "rosfit-";
static const char SERVER_GROUPS[] = "$share/rosfit-";

static char *path;
static char (*devices)[LONGEST_ID + 1];
static size_t count;

static int compare(const void *one, const void *other)
{
    return strcmp(one, other);
}

/* Keeps the list it has when there is no memory or no file. */
static int read_devices(int event, void *data, void *userdata)
{
    char line[256];
    size_t room = count, found = 0;
    void *file = path ? fopen(path, "r") : 0;
    (void)event;
    (void)data;
    (void)userdata;
    if (!file)
        return SUCCESS;
    while (fgets(line, sizeof line, file)) {
        size_t length = strlen(line);
        if (length && line[length - 1] == '\n')
            line[--length] = 0;
        if (!length || length > LONGEST_ID)
            continue;
        if (found == room) {
            void *larger = realloc(devices, (room * 2 + 64) * sizeof *devices);
            if (!larger)
                break;
            devices = larger;
            room = room * 2 + 64;
        }
        memset(devices[found], 0, sizeof *devices);
        for (size_t at = 0; at < length; at++)
            devices[found][at] = line[at];
        found++;
    }
    count = found;
    fclose(file);
    return SUCCESS;
}

static int is_own(const char *client_id, const char *username)
{
    const char *dot = strchr(username, '.');
    size_t length = dot ? (size_t)(dot - username) : strlen(username);
    return strlen(client_id) == length && strncmp(client_id, username, length) == 0;
}

/* The plugin interface does not tell. In Mosquitto's own structure the second int is the socket, and address and client
 * id follow each other, after 16 bytes or, where it resolves names in the background, after 32: if they are not there, the
 * structure is another one and nothing is concluded from it. */
static int is_offline(const struct mosquitto *client)
{
    const int *numbers = (const void *)client;
    const char *const *texts = (const void *)client;
    const char *address = mosquitto_client_address(client), *client_id = mosquitto_client_id(client);
    int known = (texts[2] == address && texts[3] == client_id) || (texts[4] == address && texts[5] == client_id);
    return known && numbers[1] == NO_SOCKET;
}

static int check_client_id(int event, void *data, void *userdata)
{
    struct basic_auth_event *asked = data;
    const char *client_id = mosquitto_client_id(asked->client);
    const char *username = asked->username;
    (void)event;
    (void)userdata;
    if (client_id && is_offline(asked->client))
        return SUCCESS;
    if (!client_id || !username || username[0] == '_' || is_own(client_id, username))
        return DEFER;
    if (strncmp(client_id, SERVER_PREFIX, sizeof SERVER_PREFIX - 1) == 0)
        return NOT_AUTHORISED;
    return count && bsearch(client_id, devices, count, sizeof *devices, compare) ? NOT_AUTHORISED : DEFER;
}

static int check_subscription(int event, void *data, void *userdata)
{
    struct acl_check_event *asked = data;
    const char *username;
    (void)event;
    (void)userdata;
    if (asked->access != SUBSCRIBE || strncmp(asked->topic, SERVER_GROUPS, sizeof SERVER_GROUPS - 1) != 0)
        return DEFER;
    username = mosquitto_client_username(asked->client);
    return username && username[0] == '_' ? DEFER : ACL_DENIED;
}

int mosquitto_plugin_version(int supported_count, const int *supported)
{
    for (int at = 0; at < supported_count; at++)
        if (supported[at] == PLUGIN_API)
            return PLUGIN_API;
    return -1;
}

int mosquitto_plugin_init(struct plugin_id *id, void **userdata, struct option *options, int option_count)
{
    (void)userdata;
    for (int at = 0; at < option_count; at++)
        if (strcmp(options[at].key, "devices") == 0)
            path = strdup(options[at].value);
    read_devices(ON_RELOAD, 0, 0);
    if (mosquitto_callback_register(id, ON_RELOAD, read_devices, 0, 0))
        return FAILED;
    if (mosquitto_callback_register(id, ON_ACL_CHECK, check_subscription, 0, 0))
        return FAILED;
    return mosquitto_callback_register(id, ON_BASIC_AUTH, check_client_id, 0, 0) ? FAILED : SUCCESS;
}

int mosquitto_plugin_cleanup(void *userdata, struct option *options, int option_count)
{
    (void)userdata;
    (void)options;
    (void)option_count;
    return SUCCESS;
}
