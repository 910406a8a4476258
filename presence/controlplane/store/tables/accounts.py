"""Organizations, roles, users and their keys, asset groups."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Index,
    Table,
    UniqueConstraint,
    false,
)

from presence.controlplane.store.tables.base import ID_LENGTH, inside, metadata, ordered, organization_column

MAX_GROUP_NAME = 120
MAX_ROLE_NAME = 256
MAX_USER_NAME = 256

organization = Table(
    "organization",
    metadata,
    Column("id", ordered(ID_LENGTH), primary_key=True),
    Column("name", ordered(128), nullable=False, unique=True),
    Column("created_at", BigInteger, nullable=False),
)

# `capabilities`: a JSON object of name to boolean. `is_default`: what users get that are invited without a role.
role = Table(
    "role",
    metadata,
    Column("id", ordered(ID_LENGTH), primary_key=True),
    organization_column(),
    Column("name", ordered(MAX_ROLE_NAME), nullable=False),
    Column("description", ordered()),
    Column("external_group_name", ordered(256)),
    Column("capabilities", ordered(), nullable=False),
    Column("is_predefined", Boolean, nullable=False, server_default=false()),
    Column("is_default", Boolean, nullable=False, server_default=false()),
    Column("created_at", BigInteger, nullable=False),
    UniqueConstraint("organization_id", "id"),
    UniqueConstraint("organization_id", "name"),
)

user = Table(
    "user",
    metadata,
    Column("id", ordered(ID_LENGTH), primary_key=True),
    organization_column(),
    Column("user_name", ordered(MAX_USER_NAME), nullable=False),
    Column("email", ordered(320)),
    Column("first_name", ordered(128)),
    Column("last_name", ordered(128)),
    Column("role_id", ordered(ID_LENGTH), nullable=False),
    Column("invited_by", ordered(MAX_USER_NAME)),
    Column("created_at", BigInteger, nullable=False),
    Column("last_login_at", BigInteger),
    inside("role", "role_id"),
    UniqueConstraint("organization_id", "id"),
    UniqueConstraint("organization_id", "user_name"),
    Index(None, "organization_id", "role_id"),
)

asset_group = Table(
    "asset_group",
    metadata,
    Column("id", ordered(ID_LENGTH), primary_key=True),
    organization_column(),
    Column("name", ordered(MAX_GROUP_NAME), nullable=False),
    Column("description", ordered()),
    Column("contact_person", ordered(MAX_USER_NAME)),
    Column("is_default", Boolean, nullable=False, server_default=false()),
    Column("created_by", ordered(MAX_USER_NAME)),
    Column("created_at", BigInteger, nullable=False),
    UniqueConstraint("organization_id", "id"),
    UniqueConstraint("organization_id", "name"),
)

# Which groups a user may enter. Whose role has the capability AllAssetGroups may enter all, listed here or not.
membership = Table(
    "membership",
    metadata,
    Column("user_id", ordered(ID_LENGTH), primary_key=True),
    Column("asset_group_id", ordered(ID_LENGTH), primary_key=True),
    organization_column(),
    inside("user", "user_id", cascades=True),
    inside("asset_group", "asset_group_id", cascades=True),
    Index(None, "organization_id", "asset_group_id"),
    Index(None, "organization_id", "user_id", "asset_group_id"),
)

# One for each user: a new key replaces the old one.
api_key = Table(
    "api_key",
    metadata,
    Column("id", ordered(ID_LENGTH), primary_key=True),
    organization_column(),
    Column("user_id", ordered(ID_LENGTH), nullable=False),
    Column("secret_hash", ordered(64), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    inside("user", "user_id", cascades=True),
    UniqueConstraint("organization_id", "user_id"),
)

token = Table(
    "token",
    metadata,
    Column("hash", ordered(64), primary_key=True),
    organization_column(),
    Column("user_id", ordered(ID_LENGTH), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False, index=True),
    inside("user", "user_id", cascades=True),
    Index(None, "organization_id", "user_id"),
)

# Who did what, with the changed fields before and after as JSON objects, secrets masked.
audit = Table(
    "audit",
    metadata,
    Column("id", ordered(ID_LENGTH), primary_key=True),
    organization_column(),
    Column("at", BigInteger, nullable=False),
    Column("user_id", ordered(ID_LENGTH)),
    Column("user_name", ordered(MAX_USER_NAME)),
    Column("activity", ordered(32), nullable=False),
    Column("entity_type", ordered(32), nullable=False),
    Column("entity_id", ordered(64), nullable=False),
    Column("asset_group_id", ordered(ID_LENGTH)),
    Column("before", ordered()),
    Column("after", ordered()),
    CheckConstraint("before IS NOT NULL OR after IS NOT NULL OR activity <> 'Modify'", name="modified"),
    Index(None, "organization_id", "at", "id"),
)
