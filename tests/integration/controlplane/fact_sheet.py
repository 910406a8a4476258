"""AppScan on Cloud's API v4 as far as it is known, written down by hand from the fact sheet; nothing here is computed.

Models, a field in a line: name, type, for texts of a request the shortest and longest length, `required`. Types:
`uuid`, `string`, `integer`, `boolean`, `time`, `any` where nothing is known, a list of what stands before `[]`, an
enumeration or model by its name; `?` is after what may be null.

Routes: method, path, the status of success, those of errors that it declares and that we can give.
"""

ENUMERATIONS = {
    "Event": "ScanExecutionCompleted ApplicationUpdated NewPatchRequest",
    "Method": "GET POST PUT",
    "Scope": "AssetGroup Application",
    "PresenceStatus": "Active NeverUsed KeyExpired KeyNeverUsed Inactive Disable",
    "UserStatus": "Active BlockNewScans BlockAccess PendingActivation BlockAccessFromAPI Archived InvitationExpired",
    "Inheritance": "None Noise Fixed",
    "ExecutionStatus": "Running Stopping Pausing InQueue Paused Ready Failed",
    "ExecutionProgress": "Pending Running UnderReview RunningManually Paused Completed",
    "Result": "None NoIssues Informational Low Medium High Critical",
    "ReadStatus": "None Unread Read",
    "Technology": "DynamicAnalyzer StaticAnalyzer IFA DastAutomation IASTAnalyzer ScaAnalyzer",
    "RiskRating": "Unknown Low Medium High Critical",
    "MaxSeverity": "Undetermined Informational Low Medium High Critical",
    "TestingStatus": "NotStarted InProgress Completed",
    "BusinessImpact": "Unspecified Low Medium High Critical",
    "CorrelationState": "None Active InProgress",
}

REQUESTS = {
    "ApiKey": """
        KeyId                        string      required
        KeySecret                    string      5..100 required
        """,
    "NewWebhook": """
        PresenceId                   uuid        required
        Uri                          string      0..2048 required
        Event                        Event       required
        Global                       boolean
        AssetGroupId                 uuid?
        AuthorizationHeader          string?     0..4096
        RequestMethod                Method?
        RequestBody                  string?     0..8192
        ContentType                  string?     0..256
        """,
    "UpdateWebhook": """
        PresenceId                   uuid?
        Uri                          string?     0..2048
        Global                       boolean?
        AuthorizationHeader          string?     0..4096
        RequestMethod                Method?
        RequestBody                  string?     0..8192
        ContentType                  string?     0..256
        """,
    "WebhookAssociation": """
        Scope                        Scope       required
        ScopeId                      uuid        required
        """,
    "NewPresence": """
        PresenceName                 string      1..128 required
        """,
    "UpdatePresence": """
        PresenceName                 string      1..128 required
        """,
    "NewRole": """
        Name                         string      1..256 required
        Capabilities                 any         required
        Description                  string?     0..2048
        ExternalGroupName            string?     0..256
        IsDefault                    boolean?
        """,
    "UserUpdate": """
        AssetGroupIds                uuid[]?
        RoleId                       uuid?
        """,
    "InviteUsers": """
        Emails                       string[]    required
        AssetGroupIds                uuid[]?
        RoleId                       uuid?
        """,
    "NewAssetGroup": """
        Name                         string      1..120 required
        Description                  string?
        ContactPerson                string?
        IssuesStatusInheritance      any
        EnableIssuesAutoClose        any
        """,
}

ANSWERS = {
    "AccessTokenData": """
        Token                        string
        Expire                       time
        """,
    "ApiKeyInfo": """
        KeyId                        string
        KeySecret                    string
        CreatedAt                    time
        """,
    "ErrorMessage": """
        Key                          string
        Message                      string
        FormatParams                 string[]
        """,
    "TenantInfo": """
        TenantId                     any
        TenantName                   string
        AllowPresence                boolean
        UserInfo                     any
        IdleTimeForSignout           integer
        """,
    "AssetGroupShortModel": """
        Id                           uuid        required
        Name                         string      required
        """,
    "WebhookModel": """
        Id                           uuid        required
        Uri                          string      required
        Presence                     Presence    required
        AssetGroup                   AssetGroupShortModel?
        Global                       boolean     required
        Event                        Event       required
        AuthorizationHeader          string?
        RequestMethod                Method?
        RequestBody                  string?
        ContentType                  string?
        """,
    "WebhookAssociation": """
        Scope                        Scope       required
        ScopeId                      uuid        required
        """,
    "Presence": """
        Id                           uuid
        PresenceName                 string
        KeyExpiresAt                 time?
        HostName                     string?
        Status                       PresenceStatus
        IsV2                         boolean
        Platform                     string?
        GitPlatform                  any
        GitConnectActive             boolean
        GitConnectUrl                string?
        GitServerUrl                 string?
        GitServerName                string?
        """,
    "NewKey": """
        Key                          string
        ExpiresAt                    time
        WebServiceHost               string
        """,
    "RoleModel": """
        Name                         string
        IsDefault                    boolean
        ExternalGroupName            string?
        Description                  string?
        Capabilities                 any
        Id                           uuid
        AsmId                        any
        Predefined                   boolean
        IsAssignable                 boolean
        """,
    "UserModel": """
        Id                           string
        UserName                     string
        FirstName                    string?
        LastName                     string?
        IsAdmin                      boolean
        RoleId                       uuid
        RoleName                     string
        Email                        string?
        CreatedAt                    time
        LastLogin                    time?
        HasApiKey                    boolean
        Status                       UserStatus
        InvitedBy                    string?
        """,
    "AssetGroupModel": """
        Id                           uuid
        Name                         string
        AppsCount                    integer
        UsersCount                   integer
        Description                  string?
        IsDefault                    boolean
        ContactPerson                string?
        CreatedBy                    string?
        CreatedAt                    time
        IssuesStatusInheritance      Inheritance
        EnableIssuesAutoClose        boolean
        DomainsCount                 integer
        ScanTemplatesCount           integer
        """,
    "ScanExecutionModel": """
        Id                           uuid
        ScanId                       uuid
        CreatedAt                    time
        ExecutedAt                   time?
        ScanEndTime                  time?
        ExecutionDurationSec         integer
        UserMessage                  string?
        PredefinedMessageKey         string?
        Status                       ExecutionStatus
        NIssuesFound                 integer
        Result                       Result
        ReadStatus                   ReadStatus
        Progress                     integer
        NCriticalIssues              integer
        NHighIssues                  integer
        NMediumIssues                integer
        NLowIssues                   integer
        NInfoIssues                  integer
        NOpenSourceLicenses          integer
        NOpenSourcePackages          integer
        NNewAppIssues                integer
        NNewAppCriticalIssues        integer
        NNewAppHighIssues            integer
        NNewAppMediumIssues          integer
        NNewAppLowIssues             integer
        NNewAppInfoIssues            integer
        AvailableReports             any[]
        ExecutionProgress            ExecutionProgress
        IncludeCustomUserMessage     boolean
        HasLogs                      boolean
        FileName                     string?
        CreatedBy                    Creator
        IsScanFileAvailable          boolean
        Comment                      string?
        EnablementMessage            string?
        HandledByScanEnabler         boolean
        IsPartial                    boolean
        QueuedDurationSec            integer
        IsValidForIncremental        boolean
        SupportModeEnabled           boolean
        CanResume                    boolean
        """,
    "Creator": """
        Id                           any
        FirstName                    string
        LastName                     string
        UserName                     string?
        Email                        string
        """,
    "MinScanModel": """
        AppId                        uuid
        AppName                      string
        AssetGroupId                 uuid
        Technology                   Technology
        """,
    "ApplicationModel": """
        Id                           uuid
        Name                         string
        RiskRating                   RiskRating
        CustomFields                 any
        CriticalIssues               integer
        HighIssues                   integer
        MediumIssues                 integer
        LowIssues                    integer
        InformationalIssues          integer
        IssuesInProgress             integer
        MaxSeverity                  MaxSeverity
        CorrelationState             CorrelationState
        RR_MaxSeverity               integer
        AssetGroupId                 uuid
        BusinessImpact               BusinessImpact
        Url                          string?
        Description                  string?
        BusinessUnit                 string?
        BusinessUnitId               any
        Type                         string?
        Technology                   string?
        TestingStatus                TestingStatus
        Hosts                        string?
        CollateralDamagePotential    string?
        TargetDistribution           string?
        ConfidentialityRequirement   string?
        IntegrityRequirement         string?
        AvailabilityRequirement      string?
        Tester                       string?
        BusinessOwner                string?
        DevelopmentContact           string?
        PreferredOfferingType        string?
        AssetGroupName               string
        DateCreated                  time
        LastUpdated                  time
        LastComment                  string?
        CreatedBy                    string?
        NewIssues                    integer
        OpenIssues                   integer
        TotalIssues                  integer
        OverallCompliance            boolean?
        ComplianceStatuses           any[]
        CanBeDeleted                 boolean
        LockedToSubscription         boolean
        TotalScans                   integer
        NScanExecutions              integer
        HasExceedingIssuesNumber     boolean
        HasExceedingScansNumber      boolean
        AutoDeleteExceededScans      boolean
        Presences                    Presence[]
        UseOnlyAppPresences          boolean
        AddedToAssetGroupBy          string?
        AddedToAssetGroupAt          time
        ScanTechnologies             string
        """,
}

OURS = {
    "NewWebhook": "MaxAgeSeconds OnUnknown",
    "UpdateWebhook": "MaxAgeSeconds OnUnknown",
    "WebhookModel": "MaxAgeSeconds OnUnknown NeverFires Paused PausedReason PausedAt",
    "Presence": "LastCanaryAgeSeconds Paused PausedUntil Conflict ConflictHosts KeyRotation",
    # As that API's v2 has it.
    "UserModel": "AssetGroupIds",
    # Of a scan only this much is known.
    "MinScanModel": "Id Name CreatedBy CreatedAt LatestExecution",
}
"""Fields that we add."""

NAMES = {
    "Presence": "PresenceModel",
    "NewKey": "KeyFile",
    "MinScanModel": "ScanModel",
    "Creator": "CreatorModel",
}
"""Names that our document has for answers, where it is another."""

ALIASES = {"Event": "ApplicationCountersChanged"}
"""What a request may say beside the values of an enumeration: the help pages' own name of an event."""

ROUTES = """
    POST   /Account/ApiKeyLogin                                200  401
    GET    /Account/IsAuthenticated                            200  401
    GET    /Account/Logout                                     200  401
    GET    /Account/TenantInfo                                 200  401
    POST   /Account/ApiKey                                     201
    POST   /Account/InviteUsers                                201  403
    GET    /Webhooks                                           200
    POST   /Webhooks                                           201  400 403
    PUT    /Webhooks/{}                                        200  400 403
    DELETE /Webhooks/{}                                        204  400 403
    GET    /Webhooks/Associations/{}                           200  400
    POST   /Webhooks/Associations/{}                           201  400 403
    DELETE /Webhooks/Associations/{}                           204  400 403
    GET    /Presences                                          200  400 401
    POST   /Presences                                          200  400 401 403
    PUT    /Presences/{}                                       204  400 401 403
    DELETE /Presences/{}                                       204  401 403
    GET    /Presences/{}/NewKey                                200  400 401 403
    GET    /Presences/{}/Download/{}                           200  400 401 403
    GET    /Roles                                              200
    POST   /Roles                                              201  400 403 409
    PUT    /Roles/{}                                           200  400 403 409
    DELETE /Roles/{}                                           204  400 403
    GET    /User                                               200
    PUT    /User/{}                                            200  403
    DELETE /User/{}                                            204  403
    GET    /AssetGroups                                        200
    POST   /AssetGroups                                        201  403
    PUT    /AssetGroups/{}                                     200  403
    DELETE /AssetGroups/{}                                     204  403
    POST   /AssetGroups/MoveAssetGroupResources/{}/{}          200  403
    GET    /Apps                                               200
    POST   /Apps                                               201  403
    PUT    /Apps/{}                                            200  403
    DELETE /Apps/{}                                            204  403
    GET    /Scans                                              200
    POST   /Scans                                              201  403
    GET    /Scans/{}/Executions                                200
    POST   /Scans/{}/Executions                                201  403
    GET    /Scans/Execution/{}                                 200  404
    GET    /Audits                                             200  403
"""
"""Where that API declares 200 and 201 for what is made, we answer 201."""

ABSENT = ("GET /Webhooks/{}", "GET /Presences/{}", "GET /Apps/{}")
"""That API has a list only, which `$filter=Id eq ...` narrows."""

ALWAYS = {"400", "401", "413", "429", "503"}
"""What each of our routes may answer."""

ROLES = {
    "Administrator": (
        "CreateModifyWebhooks AllAssetGroups ManageAssetGroups ManageApplications ManageScans UpdateScanExecutions"
        " ManagePresences ManagePresenceKeys PublishEvents ManageUsers ManageRoles ViewAudits"
    ),
    "Manager": "CreateModifyWebhooks ManageAssetGroups ManageApplications ManageScans ManageUsers",
    "Application Manager": "ManageApplications ManageScans",
    "Tester": "ManageScans",
    "Reporting Viewer": "",
}
"""The predefined roles. The capabilities' names are ours, and those from UpdateScanExecutions on have no line there."""

ERRORS = """
    PUT    Webhooks/{}                          INVALID_WEBHOOK_IDENTIFIER
    GET    Webhooks/Associations/{}             INVALID_WEBHOOK_IDENTIFIER
    DELETE Presences/{}                         INVALID_PRESENCE_IDENTIFIER
    GET    Presences/{}/NewKey                  INVALID_PRESENCE_IDENTIFIER
    DELETE Roles/{}                             ROLE_NOT_EXISTS
    DELETE AssetGroups/{}                       ASSETGROUP_NO_ACCESS
    DELETE Apps/{}                              APPLICATION_NO_ACCESS
    GET    Scans/{}/Executions                  SCAN_NO_ACCESS
    GET    Webhooks?$expand=Presence            ODATA_QUERY_ERROR
    GET    Webhooks?$top=5001                   ODATA_QUERY_ERROR
    GET    Scans?$top=501                       ODATA_QUERY_ERROR
"""
"""A 400 with that key, for an id that nothing has."""
