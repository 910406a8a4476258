"""What each role may do where, written by hand from the description and the issue; nothing here is computed.

    +  it is done; in a list: the thing is in it
    -  403: what it may see, but not do
    .  for who asks there is no such thing: the answer is the same as for an id that nothing has; not in the list
    !  it may, but the thing does not allow it: 400 or 409 with a key of its own

Columns: A Administrator, M Manager, P Application Manager, T Tester, R Reporting Viewer, and custom roles:
w CreateModifyWebhooks, o the same with AllAssetGroups, a AllAssetGroups, g ManageAssetGroups, e UpdateScanExecutions,
p PublishEvents, r ManagePresences, k ManagePresenceKeys, u ManageUsers, l ManageRoles, v ViewAudits, i the same with
AllAssetGroups, n everything but AllAssetGroups; z is a Manager again. A, o, a and i enter all asset groups; z is a
member of none; all others are members of `own`. Nobody but those who enter all is a member of the Default group, except
in the row that says so.

Places: `own` and `other` are asset groups, `organization` is the level above them (or what belongs to no group),
`foreign` is another organization.
"""

from typing import NamedTuple


class Row(NamedTuple):
    """`aspect` tells rows of one route apart."""

    route: str
    aspect: str
    place: str
    cells: str


_TABLE = """
#                                                                                                  AMPTRwoageprkulvinz

GET /Account/IsAuthenticated                                      | himself       | organization | +++++++++++++++++++
GET /Account/TenantInfo                                           | himself       | organization | +++++++++++++++++++
GET /Account/Logout                                               | himself       | organization | +++++++++++++++++++
POST /Account/ApiKeyLogin                                         | himself       | organization | +++++++++++++++++++
POST /Account/ApiKey                                              | himself       | organization | +++++++++++++++++++
POST /Account/InviteUsers                                         | to the group  | own          | ++-----------+---+.
POST /Account/InviteUsers                                         | to the group  | other        | +.-----------.---..
POST /Account/InviteUsers                                         | to the group  | foreign      | ..-----------.---..
POST /Account/InviteUsers                                         | role Manager  | own          | ++---------------+!
POST /Account/InviteUsers                                         | Administrator | own          | +------------------
POST /Account/InviteUsers                                         | the role      | foreign      | ..-----------.---..
POST /Account/InviteUsers                                         | by default    | organization | +!---------------!!
POST /Account/InviteUsers                                         | default role  | own          | ++---------------+!
POST /Account/InviteUsers                                         | Default group | organization | +!-----------!---!!

GET /Roles                                                        | role          | organization | +++++++++++++++++++
GET /Roles                                                        | role          | foreign      | ...................
POST /Roles                                                       | of nothing    | organization | +-------------+--+-
POST /Roles                                                       | of webhooks   | organization | +----------------+-
POST /Roles                                                       | of all groups | organization | +------------------
PUT /Roles/{role_id}                                              | of nothing    | organization | +-------------+--+-
PUT /Roles/{role_id}                                              | of webhooks   | organization | +----------------+-
PUT /Roles/{role_id}                                              | used in       | other        | +------------------
PUT /Roles/{role_id}                                              | to webhooks   | organization | +----------------+-
PUT /Roles/{role_id}                                              | predefined    | organization | !-------------!--!-
PUT /Roles/{role_id}                                              | default       | organization | +-------------+--+-
PUT /Roles/{role_id}                                              | default, w    | organization | +----------------+-
PUT /Roles/{role_id}                                              | default       | foreign      | ...................
PUT /Roles/{role_id}                                              | of nothing    | foreign      | ...................
DELETE /Roles/{role_id}                                           | of nothing    | organization | +-------------+--+-
DELETE /Roles/{role_id}                                           | of webhooks   | organization | +----------------+-
DELETE /Roles/{role_id}                                           | predefined    | organization | !-------------!--!-
DELETE /Roles/{role_id}                                           | of nothing    | foreign      | ...................

GET /User                                                         | himself       | organization | +++++++++++++++++++
GET /User                                                         | viewer        | own          | ++...........+...+.
GET /User                                                         | viewer        | other        | +..................
GET /User                                                         | viewer        | foreign      | ...................
PUT /User/{user_id}                                               | viewer        | own          | ++...........+...+.
PUT /User/{user_id}                                               | viewer        | other        | +..................
PUT /User/{user_id}                                               | viewer        | foreign      | ...................
PUT /User/{user_id}                                               | manager       | own          | ++...........-...+.
PUT /User/{user_id}                                               | administrator | own          | +-...........-...-.
PUT /User/{user_id}                                               | to Manager    | own          | ++...........-...+.
PUT /User/{user_id}                                               | into group    | other        | +..................
PUT /User/{user_id}                                               | into group    | foreign      | ...................
PUT /User/{user_id}                                               | self-made Adm | organization | +------------------
DELETE /User/{user_id}                                            | viewer        | own          | ++...........+...+.
DELETE /User/{user_id}                                            | viewer        | other        | +..................
DELETE /User/{user_id}                                            | viewer        | foreign      | ...................
DELETE /User/{user_id}                                            | manager       | own          | ++...........-...+.
DELETE /User/{user_id}                                            | administrator | own          | +-...........-...-.

GET /AssetGroups                                                  | group         | own          | ++++++++++++++++++.
GET /AssetGroups                                                  | group         | other        | +.....++........+..
GET /AssetGroups                                                  | group         | foreign      | ...................
POST /AssetGroups                                                 | group         | organization | ++------+--------++
PUT /AssetGroups/{asset_group_id}                                 | group         | own          | ++------+--------+.
PUT /AssetGroups/{asset_group_id}                                 | group         | other        | +.....--........-..
PUT /AssetGroups/{asset_group_id}                                 | group         | foreign      | ...................
DELETE /AssetGroups/{asset_group_id}                              | empty group   | own          | ++------+--------+.
DELETE /AssetGroups/{asset_group_id}                              | empty group   | other        | +.....--........-..
DELETE /AssetGroups/{asset_group_id}                              | empty group   | foreign      | ...................
DELETE /AssetGroups/{asset_group_id}                              | Default group | organization | !.....--........-..
DELETE /AssetGroups/{asset_group_id}                              | with an app   | own          | +!---------------!.
DELETE /AssetGroups/{asset_group_id}                              | with an app   | other        | +.....--........-..
DELETE /AssetGroups/{asset_group_id}                              | with an app   | foreign      | ...................
DELETE /AssetGroups/{asset_group_id}                              | with a webhook | own          | ++---------------+.
DELETE /AssetGroups/{asset_group_id}                              | with a webhook | other        | +.....--........-..
DELETE /AssetGroups/{asset_group_id}                              | with a webhook | foreign      | ...................
POST /AssetGroups/MoveAssetGroupResources/{source_id}/{target_id} | from          | own          | ++---------------+.
POST /AssetGroups/MoveAssetGroupResources/{source_id}/{target_id} | from          | other        | +.....--........-..
POST /AssetGroups/MoveAssetGroupResources/{source_id}/{target_id} | from          | foreign      | ...................
POST /AssetGroups/MoveAssetGroupResources/{source_id}/{target_id} | to            | other        | +.------.--------..
POST /AssetGroups/MoveAssetGroupResources/{source_id}/{target_id} | to            | foreign      | ..------.--------..
DELETE /AssetGroups/{asset_group_id}                              | app, Default  | own          | ++---------------+.

GET /Apps                                                         | application   | own          | ++++++++++++++++++.
GET /Apps                                                         | application   | other        | +.....++........+..
GET /Apps                                                         | application   | foreign      | ...................
POST /Apps                                                        | in the group  | own          | +++--------------+.
POST /Apps                                                        | in the group  | other        | +..--------------..
POST /Apps                                                        | in the group  | foreign      | ...--------------..
PUT /Apps/{application_id}                                        | application   | own          | +++--------------+.
PUT /Apps/{application_id}                                        | application   | other        | +.....--........-..
PUT /Apps/{application_id}                                        | application   | foreign      | ...................
PUT /Apps/{application_id}                                        | into group    | other        | +..--------------..
PUT /Apps/{application_id}                                        | into group    | foreign      | ...--------------..
DELETE /Apps/{application_id}                                     | application   | own          | +++--------------+.
DELETE /Apps/{application_id}                                     | application   | other        | +.....--........-..
DELETE /Apps/{application_id}                                     | application   | foreign      | ...................

GET /Scans                                                        | scan          | own          | ++++++++++++++++++.
GET /Scans                                                        | scan          | other        | +.....++........+..
GET /Scans                                                        | scan          | foreign      | ...................
POST /Scans                                                       | of the app    | own          | ++++-------------+.
POST /Scans                                                       | of the app    | other        | +...-------------..
POST /Scans                                                       | of the app    | foreign      | ....-------------..
GET /Scans/Execution/{execution_id}                               | execution     | own          | ++++++++++++++++++.
GET /Scans/Execution/{execution_id}                               | execution     | other        | +.....++........+..
GET /Scans/Execution/{execution_id}                               | execution     | foreign      | ...................
PUT /Scans/Execution/{execution_id}                               | execution     | own          | +--------+-------+.
PUT /Scans/Execution/{execution_id}                               | execution     | other        | +.....--........-..
PUT /Scans/Execution/{execution_id}                               | execution     | foreign      | ...................
GET /Scans/{scan_id}/Executions                                   | scan          | own          | ++++++++++++++++++.
GET /Scans/{scan_id}/Executions                                   | scan          | other        | +.....++........+..
GET /Scans/{scan_id}/Executions                                   | scan          | foreign      | ...................
POST /Scans/{scan_id}/Executions                                  | scan          | own          | ++++-------------+.
POST /Scans/{scan_id}/Executions                                  | scan          | other        | +.....--........-..
POST /Scans/{scan_id}/Executions                                  | scan          | foreign      | ...................

GET /Presences                                                    | presence      | organization | +++++++++++++++++++
GET /Presences                                                    | presence      | foreign      | ...................
POST /Presences                                                   | presence      | organization | +----------+-----+-
POST /Presences/Enroll                                            | with a token  | organization | +++++++++++++++++++
PUT /Presences/{presence_id}                                      | presence      | organization | +----------+-----+-
PUT /Presences/{presence_id}                                      | presence      | foreign      | ...................
DELETE /Presences/{presence_id}                                   | presence      | organization | +----------+-----+-
DELETE /Presences/{presence_id}                                   | presence      | foreign      | ...................
GET /Presences/{presence_id}/NewKey                               | presence      | organization | +-----------+----+-
GET /Presences/{presence_id}/NewKey                               | presence      | foreign      | ...................
GET /Presences/{presence_id}/Download/{platform}                  | presence      | organization | +-----------+----+-
GET /Presences/{presence_id}/Download/{platform}                  | presence      | foreign      | ...................
POST /Presences/{presence_id}/EnrollmentToken                     | presence      | organization | +-----------+----+-
POST /Presences/{presence_id}/EnrollmentToken                     | presence      | foreign      | ...................
POST /Presences/{presence_id}/RotateKey                           | unconnected   | organization | !-----------!----!-
POST /Presences/{presence_id}/RotateKey                           | unconnected   | foreign      | ...................

GET /Webhooks                                                     | webhook       | own          | ++++++++++++++++++.
GET /Webhooks                                                     | webhook       | other        | +.....++........+..
GET /Webhooks                                                     | webhook       | organization | +.....++........+..
GET /Webhooks                                                     | webhook       | foreign      | ...................
POST /Webhooks                                                    | webhook       | own          | ++---++----------+.
POST /Webhooks                                                    | webhook       | other        | +.---.+----------..
POST /Webhooks                                                    | webhook       | organization | +-----+------------
POST /Webhooks                                                    | webhook       | foreign      | ..---..----------..
POST /Webhooks                                                    | by presence   | foreign      | ..---..----------..
PUT /Webhooks/{webhook_id}                                        | webhook       | own          | ++---++----------+.
PUT /Webhooks/{webhook_id}                                        | webhook       | other        | +.....+-........-..
PUT /Webhooks/{webhook_id}                                        | webhook       | organization | +.....+-........-..
PUT /Webhooks/{webhook_id}                                        | webhook       | foreign      | ...................
PUT /Webhooks/{webhook_id}                                        | to Global     | own          | ++---++----------+.
PUT /Webhooks/{webhook_id}                                        | to Global     | other        | +.....+-........-..
PUT /Webhooks/{webhook_id}                                        | to Global     | organization | +.....+-........-..
PUT /Webhooks/{webhook_id}                                        | to Global     | foreign      | ...................
PUT /Webhooks/{webhook_id}                                        | to presence   | foreign      | ..---..----------..
DELETE /Webhooks/{webhook_id}                                     | webhook       | own          | ++---++----------+.
DELETE /Webhooks/{webhook_id}                                     | webhook       | other        | +.....+-........-..
DELETE /Webhooks/{webhook_id}                                     | webhook       | organization | +.....+-........-..
DELETE /Webhooks/{webhook_id}                                     | webhook       | foreign      | ...................
POST /Webhooks/{webhook_id}/Test                                  | webhook       | own          | ++---++----------+.
POST /Webhooks/{webhook_id}/Test                                  | webhook       | other        | +.....+-........-..
POST /Webhooks/{webhook_id}/Test                                  | webhook       | organization | +.....+-........-..
POST /Webhooks/{webhook_id}/Test                                  | webhook       | foreign      | ...................
POST /Webhooks/{webhook_id}/Pause                                 | webhook       | own          | ++---++----------+.
POST /Webhooks/{webhook_id}/Pause                                 | webhook       | other        | +.....+-........-..
POST /Webhooks/{webhook_id}/Pause                                 | webhook       | organization | +.....+-........-..
POST /Webhooks/{webhook_id}/Pause                                 | webhook       | foreign      | ...................
POST /Webhooks/{webhook_id}/Resume                                | webhook       | own          | ++---++----------+.
POST /Webhooks/{webhook_id}/Resume                                | webhook       | other        | +.....+-........-..
POST /Webhooks/{webhook_id}/Resume                                | webhook       | organization | +.....+-........-..
POST /Webhooks/{webhook_id}/Resume                                | webhook       | foreign      | ...................

GET /Webhooks/Associations/{webhook_id}                           | webhook       | own          | ++++++++++++++++++.
GET /Webhooks/Associations/{webhook_id}                           | webhook       | other        | +.....++........+..
GET /Webhooks/Associations/{webhook_id}                           | webhook       | organization | +.....++........+..
GET /Webhooks/Associations/{webhook_id}                           | webhook       | foreign      | ...................
POST /Webhooks/Associations/{webhook_id}                          | and app of    | own          | ++---++----------+.
POST /Webhooks/Associations/{webhook_id}                          | and app of    | other        | +.....+-........-..
POST /Webhooks/Associations/{webhook_id}                          | and app of    | foreign      | ...................
POST /Webhooks/Associations/{webhook_id}                          | and own app   | organization | +.....+-........-..
POST /Webhooks/Associations/{webhook_id}                          | and own group | organization | +.....+-........-..
POST /Webhooks/Associations/{webhook_id}                          | Global one    | own          | !!---!!----------!.
POST /Webhooks/Associations/{webhook_id}                          | Global one    | other        | !.....!-........-..
POST /Webhooks/Associations/{webhook_id}                          | Global one    | organization | !.....!-........-..
POST /Webhooks/Associations/{webhook_id}                          | Global one    | foreign      | ...................
POST /Webhooks/Associations/{webhook_id}                          | own, to app   | other        | !.---.!----------..
POST /Webhooks/Associations/{webhook_id}                          | own, to app   | foreign      | ..---..----------..
POST /Webhooks/Associations/{webhook_id}                          | own, to group | own          | !!---!!----------!!
POST /Webhooks/Associations/{webhook_id}                          | highest, app  | foreign      | .......-........-..
DELETE /Webhooks/Associations/{webhook_id}                        | and app of    | own          | ++---++----------+.
DELETE /Webhooks/Associations/{webhook_id}                        | and app of    | other        | +.....+-........-..
DELETE /Webhooks/Associations/{webhook_id}                        | and app of    | foreign      | ...................
DELETE /Webhooks/Associations/{webhook_id}                        | and own app   | organization | +.....+-........-..

GET /EffectiveAccess                                              | to a host     | organization | +---------------+--

POST /Events                                                      | of the app    | own          | +---------+------+-
POST /Events                                                      | of the app    | other        | +---------.------.-
POST /Events                                                      | of the app    | foreign      | .---------.------.-
POST /Events                                                      | of no app     | organization | +---------+------+-

GET /Deliveries                                                   | delivery      | own          | ++++++++++++++++++.
GET /Deliveries                                                   | delivery      | other        | +.....++........+..
GET /Deliveries                                                   | delivery      | organization | +.....++........+..
GET /Deliveries                                                   | delivery      | foreign      | ...................
GET /Deliveries/{delivery_id}                                     | delivery      | own          | ++++++++++++++++++.
GET /Deliveries/{delivery_id}                                     | delivery      | other        | +.....++........+..
GET /Deliveries/{delivery_id}                                     | delivery      | organization | +.....++........+..
GET /Deliveries/{delivery_id}                                     | delivery      | foreign      | ...................
GET /Deliveries/{delivery_id}                                     | orphan        | own          | ++++++++++++++++++.
GET /Deliveries/{delivery_id}                                     | orphan        | other        | +.....++........+..
GET /Deliveries/{delivery_id}                                     | orphan        | organization | +.....++........+..
GET /Deliveries/{delivery_id}                                     | orphan        | foreign      | ...................
POST /Deliveries/{delivery_id}/Resolve                            | queued        | own          | !!---!!----------!.
POST /Deliveries/{delivery_id}/Resolve                            | queued        | other        | !.....!-........-..
POST /Deliveries/{delivery_id}/Resolve                            | queued        | organization | !.....!-........-..
POST /Deliveries/{delivery_id}/Resolve                            | queued        | foreign      | ...................
POST /Deliveries/{delivery_id}/Cancel                             | queued        | own          | ++---++----------+.
POST /Deliveries/{delivery_id}/Cancel                             | queued        | other        | +.....+-........-..
POST /Deliveries/{delivery_id}/Cancel                             | queued        | organization | +.....+-........-..
POST /Deliveries/{delivery_id}/Cancel                             | queued        | foreign      | ...................
POST /Deliveries/{delivery_id}/Redeliver                          | ended         | own          | ++---++----------+.
POST /Deliveries/{delivery_id}/Redeliver                          | ended         | other        | +.....+-........-..
POST /Deliveries/{delivery_id}/Redeliver                          | ended         | organization | +.....+-........-..
POST /Deliveries/{delivery_id}/Redeliver                          | ended         | foreign      | ...................
POST /Deliveries/{delivery_id}/Redeliver                          | orphan        | own          | !!---!!----------!.
POST /Deliveries/{delivery_id}/Redeliver                          | orphan        | other        | !.....!-........-..
POST /Deliveries/{delivery_id}/Redeliver                          | orphan        | organization | !.....!-........-..
POST /Deliveries/{delivery_id}/Redeliver                          | orphan        | foreign      | ...................

GET /Audits                                                       | of an app     | own          | +--------------+++-
GET /Audits                                                       | of an app     | other        | +--------------.+.-
GET /Audits                                                       | of a presence | organization | +--------------.+.-
GET /Audits                                                       | of a presence | foreign      | .--------------...-
"""

PUBLIC = {"GET /healthz", "GET /readyz", "GET /metrics", "GET /docs", "GET /docs/style.css", "GET /openapi.json"}
"""At the top, not under /api/v4; for everybody, also without a log-in."""

WITHOUT_LOG_IN = {"POST /Account/ApiKeyLogin", "POST /Presences/Enroll"}
"""They ask for a secret of their own."""


def _row(line: str) -> Row:
    route, aspect, place, cells = line.split("|")
    return Row(route.strip(), aspect.strip(), place.strip(), cells.replace(" ", ""))


TABLE = [_row(line) for line in _TABLE.splitlines() if line and not line.startswith("#")]
